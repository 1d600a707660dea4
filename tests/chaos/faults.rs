//! How each fault is made, and how it ends.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::plan::{Cut, Fault, Loss, Step, Whom};
use crate::shops::Shop;
use crate::stores;
use crate::support::{until, until_true};
use crate::world::{KEEP_LOG, World};

/// How much a clock is set ahead or back: more than any clock drifts.
const HOUR_S: i64 = 3600;

impl World {
    /// Makes one fault, ends it, and waits until the cluster works again.
    pub(crate) async fn carry_out(&mut self, step: Step) {
        let began = Instant::now();
        match step.fault {
            Fault::Kill(whom) => self.kill(whom, step).await,
            Fault::Freeze(whom) => self.freeze(whom, step).await,
            Fault::Owner(loss) => self.lose_owner(loss, step).await,
            Fault::Cut(cut) => self.partition(cut, step).await,
            Fault::BadLinks => self.bad_links(step).await,
            Fault::FullDisk => self.full_disk(step).await,
            Fault::PowerLoss(whom) => self.power_loss(whom, step).await,
            Fault::Clock { ahead } => self.clock(ahead, step).await,
            Fault::RollingRestart => self.rolling_restart().await,
            Fault::Membership => self.membership(step).await,
            Fault::Snapshot => self.snapshot(step).await,
        }
        self.note_processes();
        let ended = began.elapsed();
        self.recover().await;
        let waited = began.elapsed().saturating_sub(ended);
        self.say(&format!("  ready again after {:.1} s", waited.as_secs_f64()));
    }

    fn tell(&mut self, kind: &'static str, what: &str) {
        *self.done.entry(kind).or_default() += 1;
        self.say(&format!("{kind}: {what}"));
    }

    fn names(&self, which: &[usize]) -> String {
        let names: Vec<_> = which.iter().map(|n| format!("node {}", self.nodes[*n].id)).collect();
        names.join(", ")
    }

    async fn whom(&self, whom: Whom, choice: u64) -> Vec<usize> {
        let leader = self.leader().await;
        let others: Vec<usize> = self.members.iter().copied().filter(|n| *n != leader).collect();
        match whom {
            Whom::Leader => vec![leader],
            Whom::Follower => vec![others[usize::try_from(choice).unwrap() % others.len()]],
            Whom::All => self.members.clone(),
        }
    }

    async fn kill(&mut self, whom: Whom, step: Step) {
        let victims = self.whom(whom, step.choice).await;
        self.tell("kill -9", &format!("{whom:?}, {}", self.names(&victims)));
        for n in &victims {
            self.nodes[*n].kill();
        }
        sleep(step.lasts).await;
        self.start(&victims).await;
    }

    async fn start(&mut self, which: &[usize]) {
        for n in which {
            self.nodes[*n].spawn();
        }
        for n in which {
            self.nodes[*n].answers().await.unwrap();
        }
    }

    async fn freeze(&mut self, whom: Whom, step: Step) {
        let victims = self.whom(whom, step.choice).await;
        self.tell("SIGSTOP", &format!("{whom:?}, {}", self.names(&victims)));
        for n in &victims {
            self.nodes[*n].freeze();
        }
        sleep(step.lasts).await;
        for n in &victims {
            self.nodes[*n].thaw();
        }
    }

    /// The node that pushes is away until others push to every store, and a little longer. What it was about to send
    /// then must not be sent any more. Whoever stood in is killed before it gives anything back.
    async fn lose_owner(&mut self, loss: Loss, step: Step) {
        let owners = self.owners(self.members[0]).await;
        let known = |n: &&usize| owners.contains(&Some(self.nodes[**n].id));
        let one = *self.members.iter().find(known).expect("somebody pushes");
        let other = *self.members.iter().find(|n| **n != one).unwrap();
        let id = self.nodes[one].id;
        self.tell("owner lost", &format!("{loss:?}, node {id}, which pushes"));
        // For so long nobody goes on sending to a node of which nothing is heard.
        let others: Vec<usize> = self.members.iter().copied().filter(|n| *n != one).collect();
        self.announce_to(&others).await;
        match loss {
            Loss::Paused => self.nodes[one].freeze(),
            Loss::CutOff => self.cut(|from, to| from == one || to == one),
        }
        // Nobody takes a store over that nothing waits for.
        for store in &self.stores {
            let path = format!("/v1/channels/{}/push", store.name());
            let asked = json!({ "sku": stores::skus().next() }).to_string();
            self.ask_of(&[other], "POST", &path, &asked).await;
        }
        until_true("others push to every store", async || {
            let owners = self.owners(other).await;
            !owners.is_empty() && !owners.contains(&Some(id)) && !owners.contains(&None)
        })
        .await;
        self.say("  others push to every store");
        sleep(step.lasts).await;
        match loss {
            Loss::Paused => self.nodes[one].thaw(),
            Loss::CutOff => self.calm(),
        }
        let owners = self.owners(other).await;
        let stands_in = |n: &&usize| owners.contains(&Some(self.nodes[**n].id));
        let stands_in: Vec<usize> = others.iter().filter(stands_in).take(1).copied().collect();
        self.say(&format!("  {}, which stood in, is killed", self.names(&stands_in)));
        for n in &stands_in {
            self.nodes[*n].kill();
        }
        self.start(&stands_in).await;
        self.announce().await;
    }

    /// Who pushes to each store, as a node knows it.
    async fn owners(&self, n: usize) -> Vec<Option<u64>> {
        let Some(channels) = self.nodes[n].try_get("/v1/channels").await else { return Vec::new() };
        let owner = |store: &Shop| {
            let channels = channels["items"].as_array()?;
            channels.iter().find(|known| known["name"] == store.name())?["owner"].as_u64()
        };
        self.stores.iter().map(owner).collect()
    }

    async fn partition(&mut self, cut: Cut, step: Step) {
        let whom = match cut {
            Cut::Around(whom) | Cut::From(whom) | Cut::To(whom) => whom,
            Cut::Bridge | Cut::All => Whom::Leader,
        };
        let one = self.whom(whom, step.choice).await[0];
        let other = self.whom(Whom::Follower, step.choice).await[0];
        self.tell("partition", &format!("{cut:?}, node {}", self.nodes[one].id));
        self.cut(|from, to| match cut {
            Cut::Around(_) => from == one || to == one,
            Cut::From(_) => from == one,
            Cut::To(_) => to == one,
            Cut::Bridge => [from, to] == [one, other] || [to, from] == [one, other],
            Cut::All => true,
        });
        sleep(step.lasts + Duration::from_secs(1)).await;
        self.calm();
    }

    async fn bad_links(&mut self, step: Step) {
        let lost = 50 + step.choice % 150;
        self.tell("bad links", &format!("{lost} of 1000 packets lost or doubled, delays doubled"));
        self.wan.change(|_, link| {
            (link.lost, link.doubled) = (lost, lost);
            (link.delay, link.jitter) = (link.delay * 2, link.delay);
        });
        sleep(step.lasts + Duration::from_secs(2)).await;
        self.calm();
    }

    async fn full_disk(&mut self, step: Step) {
        let whom = if step.choice.is_multiple_of(2) { Whom::Leader } else { Whom::Follower };
        let n = self.whom(whom, step.choice).await[0];
        self.tell("full disk", &format!("{whom:?}, {}", self.names(&[n])));
        self.disks[n].fill(8 << 20);
        // What its stores need at this very moment may be more than is left: then it ends before it refuses.
        let mut ended = false;
        until_true("a node without room refuses webhooks, or ends", async || {
            ended |= self.nodes[n].has_ended();
            let ready = self.nodes[n].api("GET", "/readyz", &[], "").await;
            ended || ready.is_ok_and(|answer| answer.status == 503)
        })
        .await;
        self.disks[n].fill(0);
        sleep(step.lasts).await;
        self.disks[n].free();
        // A node that could not write ends by itself, after a while; one that did not have to goes on.
        until_true("a node without room ends, or goes on", async || {
            ended |= self.nodes[n].has_ended();
            let ready = self.nodes[n].api("GET", "/readyz?leader", &[], "").await;
            ended || ready.is_ok_and(|answer| answer.status == 200)
        })
        .await;
        self.say(if ended { "  it has stopped; it is started again" } else { "  it goes on" });
        if ended {
            self.start(&[n]).await;
        }
    }

    async fn power_loss(&mut self, whom: Whom, step: Step) {
        let victims = self.whom(whom, step.choice).await;
        self.tell("power loss", &format!("{whom:?}, {}", self.names(&victims)));
        for n in &victims {
            self.disks[*n].cut();
        }
        for n in &victims {
            self.nodes[*n].kill();
        }
        sleep(step.lasts / 2).await;
        for n in &victims {
            self.disks[*n].restore();
        }
        self.start(&victims).await;
    }

    async fn clock(&mut self, ahead: bool, step: Step) {
        if self.faketime.is_none() {
            return;
        }
        let n = self.leader().await;
        let direction = if ahead { "ahead" } else { "back" };
        self.tell("clock", &format!("an hour {direction}, {}, which leads", self.names(&[n])));
        self.set_clock(n, if ahead { HOUR_S } else { -HOUR_S });
        until_true("one whose clock is off leads no more", async || {
            let status = self.nodes[n].try_get("/cluster/status").await;
            status.is_some_and(|status| status["role"] != "leader")
        })
        .await;
        sleep(step.lasts).await;
        self.set_clock(n, 0);
    }

    async fn rolling_restart(&mut self) {
        self.tell("rolling restart", "one after the other");
        for n in self.members.clone() {
            self.nodes[n].stop().await;
            self.start(&[n]).await;
            self.recover().await;
        }
    }

    async fn membership(&mut self, step: Step) {
        let new = (0..self.nodes.len()).find(|n| !self.members.contains(n)).unwrap();
        let old = self.members[usize::try_from(step.choice).unwrap() % self.members.len()];
        let [joins, leaves] = [new, old].map(|n| self.nodes[n].id);
        self.tell("membership", &format!("node {joins} joins, node {leaves} is removed"));
        self.nodes[new].start().await;
        let member = self.nodes[new].member().to_string();
        self.ask("POST", "/cluster/members", &member).await;
        self.ask("POST", &format!("/cluster/members/{joins}/promote"), "").await;
        self.members.push(new);
        self.recover().await;
        // Nobody goes to the old one any more; what it has taken is agreed on before it leaves.
        self.members.retain(|n| *n != old);
        self.announce().await;
        until_true("all that the old one took is agreed on", async || {
            let status = self.nodes[old].try_get("/cluster/status").await;
            status.is_some_and(|status| status["backlog"] == 0)
        })
        .await;
        self.ask("DELETE", &format!("/cluster/members/{leaves}"), "").await;
        self.recover().await;
        // What a store sent to its old address since then it may keep for itself, though it answered 200:
        // that is found by asking the store.
        self.nodes[old].kill();
        std::fs::remove_dir_all(&self.nodes[old].data_dir).unwrap();
        self.nodes[old] = self.node(old);
        stores::name_in_config(&self.stores, &mut self.nodes[old]);
    }

    async fn snapshot(&mut self, step: Step) {
        let away = self.whom(Whom::Follower, step.choice).await;
        self.tell("snapshot", &format!("{} is away until the log is purged", self.names(&away)));
        self.nodes[away[0]].kill();
        let leader = self.leader().await;
        let indexes = async || {
            let status = self.nodes[leader].try_get("/cluster/status").await?;
            Some((status["last_log"].as_u64()?, status["snapshot"].as_u64().unwrap_or(0)))
        };
        let (before, _) = until("the leader answers", indexes).await;
        until_true("the log is purged", async || {
            indexes().await.is_some_and(|(_, snapshot)| snapshot > before + KEEP_LOG)
        })
        .await;
        self.start(&away).await;
    }
}
