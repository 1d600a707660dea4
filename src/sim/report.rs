//! `stockraft sim`: what it is asked, and what it says.

use std::time::Duration;

use super::faults::Kinds;
use super::shrink::{ranges, shrink};
use super::{LISTED, NODES, Outcome, Plan, parts, shop, simulate};

/// What is simulated.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The seed; without it one is drawn, and printed.
    #[arg(long)]
    seed: Option<u64>,
    /// So many runs, of this seed and those after it.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// What customers and clients do.
    #[arg(long, default_value_t = 2_000)]
    events: u64,
    /// Virtual hours with faults; what follows is calm.
    #[arg(long, default_value_t = 48)]
    hours: u64,
    /// Kinds of fault, or what their names begin with: all unless some are named; `none`.
    #[arg(long, value_delimiter = ',', value_parser = super::faults::known)]
    faults: Vec<String>,
    /// Events that are left out, as a replay names them: 3,10-20.
    #[arg(long, value_delimiter = ',', value_parser = range)]
    without: Vec<(u64, u64)>,
    /// Looks for no shorter history where a promise is not kept.
    #[arg(long)]
    as_is: bool,
    /// Seconds for which a shorter history is looked for.
    #[arg(long, default_value_t = 120)]
    patience: u64,
}

/// Lines of a history that are printed at the most.
const STORY_LINES: usize = 80;

/// The invariants that a run holds against what really happened.
const INVARIANTS: [(&str, &str); 9] = [
    ("I1", "each delivery answered 200 is applied once"),
    ("I2", "levels are the sums of their movements"),
    ("I3", "what is granted is there"),
    ("I4", "no raise causes an oversell"),
    ("I6", "replicas are equal"),
    (
        "I7",
        "a message comes until it is finished, in its key's order, or is dead after exactly so many attempts",
    ),
    ("I8", "every listing shows what the ledger says, never an older value after a newer"),
    ("I10", "what is forged is refused"),
    ("I11", "a snapshot and the log after it are the whole log"),
];

/// Runs a simulation and prints what came of it. The error says which promise was not kept.
pub fn run(options: &Options, say: impl Fn(&str)) -> Result<(), String> {
    let first = options.plan();
    let (events, hours) = (first.events, first.hours);
    say(&format!("seed {}: {events} events in {hours} h, three nodes", first.seed));
    let mut outcome = simulate(&first)?;
    for n in 1..options.seeds {
        if outcome.broken.is_some() {
            break;
        }
        outcome.add(simulate(&Plan { seed: first.seed.wrapping_add(n), ..first.clone() })?);
    }
    outcome.print(&say);
    let Some(broken) = outcome.broken.clone() else { return Ok(()) };
    let shortest = if options.as_is {
        outcome.plan
    } else {
        say("looking for a shorter history …");
        let before = outcome.plan.size();
        let shortest = shrink(outcome, Duration::from_secs(options.patience));
        say(&format!("{before}: shortened to {}", shortest.size()));
        shortest
    };
    say(&format!("replay: {}", shortest.command()));
    let shortest = simulate(&Plan { telling: true, ..shortest })?;
    shortest.tell(&say);
    Err(format!("{} was not kept: {}", broken.invariant, broken.how))
}

impl Options {
    fn plan(&self) -> Plan {
        let seed = self.seed.unwrap_or_else(|| {
            let mut bytes = [0; 4];
            // A seed that is always the same is still a seed.
            let _ = getrandom::fill(&mut bytes);
            u64::from(u32::from_le_bytes(bytes))
        });
        let without = self.without.iter().flat_map(|(first, last)| *first..=*last).collect();
        let kinds = Kinds::named(&self.faults);
        let (events, hours) = (self.events, self.hours.max(1));
        Plan { seed, events, hours, kinds, without, telling: false }
    }
}

/// Numbers as a replay names them: `7`, `10-20`.
fn range(text: &str) -> Result<(u64, u64), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number"));
    Ok((number(first)?, number(last)?))
}

impl Plan {
    /// How much happens in it.
    fn size(&self) -> String {
        let events = self.events - u64::try_from(self.without.len()).unwrap_or(0);
        format!("{events} events, {} kinds of fault, {} h", self.kinds.iter().count(), self.hours)
    }

    /// The command that runs this plan again.
    fn command(&self) -> String {
        let mut command = format!(
            "stockraft sim --seed {} --events {} --hours {}",
            self.seed, self.events, self.hours
        );
        for (option, values) in
            [("faults", self.kinds.names()), ("without", ranges(self.without.iter().copied()))]
        {
            if !values.is_empty() {
                command.extend([" --", option, " ", &values.join(",")]);
            }
        }
        command
    }
}

impl Outcome {
    /// Takes another run in: from then on this stands for all of them, and its plan is the last one's.
    fn add(&mut self, other: Self) {
        for (fault, count) in other.tally.faults {
            *self.tally.faults.entry(fault).or_default() += count;
        }
        for (name, count) in other.tally.reached {
            *self.tally.reached.entry(name).or_default() += count;
        }
        for (cause, units) in other.oversold {
            match self.oversold.iter_mut().find(|(known, _)| *known == cause) {
                Some((_, sum)) => *sum += units,
                None => self.oversold.push((cause, units)),
            }
        }
        self.virtual_time += other.virtual_time;
        self.real_time += other.real_time;
        self.entries += other.entries;
        self.digest = self.digest.rotate_left(1) ^ other.digest;
        (self.plan, self.broken, self.story) = (other.plan, other.broken, other.story);
    }

    /// The end of the history, and of it what is about the SKU that went wrong, by itself and in kits.
    fn tell(&self, say: &impl Fn(&str)) {
        let Some(broken) = &self.broken else { return };
        let about = LISTED.iter().filter(|sku| {
            parts(sku).iter().chain(&[(**sku, 1)]).any(|(name, _)| broken.how.contains(name))
        });
        let about: Vec<_> = about.flat_map(|sku| shop::names(sku)).collect();
        let is_about =
            |line: &&String| about.is_empty() || about.iter().any(|name| line.contains(name));
        let lines: Vec<&String> = self.story.iter().filter(is_about).collect();
        lines.iter().skip(lines.len().saturating_sub(STORY_LINES)).for_each(|line| say(line));
        say(&format!("{} at {:?}: {}", broken.invariant, broken.at, broken.how));
    }

    fn print(&self, say: &impl Fn(&str)) {
        let columns = |rows: Vec<(String, u64)>| {
            let cells: Vec<String> =
                rows.into_iter().map(|(name, count)| format!("{name} {count}")).collect();
            cells.chunks(5).for_each(|row| say(&format!("  {}", row.join(" · "))));
        };
        say("faults");
        let faults = self.tally.faults.iter();
        columns(faults.map(|(fault, count)| (fault.name().to_string(), *count)).collect());
        say("reached");
        columns(self.tally.reached.iter().map(|(name, count)| (name.clone(), *count)).collect());
        for (cause, units) in &self.oversold {
            say(&format!("oversold by {cause}: {units} units"));
        }
        let hours = self.virtual_time.as_secs_f64() / 3_600.0;
        let nodes = u32::try_from(NODES).unwrap_or(1);
        let real = self.real_time.as_secs_f64();
        say(&format!(
            "{hours:.1} virtual hours of {nodes} nodes in {real:.1} s of processor time \
             ({:.0} cluster-hours a minute), {} log entries",
            hours * 60.0 / real.max(0.001),
            self.entries
        ));
        for (name, promise) in INVARIANTS {
            let broken = self.broken.as_ref().filter(|broken| broken.invariant == name);
            say(&match broken {
                Some(broken) => format!("{name} BROKEN at {:?}: {}", broken.at, broken.how),
                None => format!("{name} kept: {promise}"),
            });
        }
        say(&format!("digest {:016x}", self.digest));
    }
}
