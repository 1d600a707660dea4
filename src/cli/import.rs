//! `stockraft stock import`: a file of levels or of movements, checked as a whole before any of it moves
//! stock.
//!
//! Every row has an id made of the file's SHA-256 and its line, unless it brings its own: a file that was
//! imported in part, or whole, can be imported again, and no row of it counts twice.

mod check;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use futures::{StreamExt as _, TryStreamExt as _};
use hyper::Method;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::ask::{client, encode, progress, show};
use super::rows::{Fault, Rows};
use super::{Failure, Target, say_error};
use crate::channel::hex;
use crate::client::{Client, Error};
use check::{Checked, Checker, Kind};

/// Rows and bytes of one request.
const BATCH_ROWS: usize = 1_000;
const BATCH_BYTES: usize = 256 * 1024;
/// Rows whose faults are told one by one.
const TOLD_MAX: u64 = 50;
/// SKUs that are created at once.
const CREATING: usize = 16;
/// How often a request is sent that a node did not answer, and the pause before the next time.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(super) struct Import {
    /// The file: CSV with a header, or a JSON object a line. Levels have the columns sku, location and
    /// `on_hand`; movements kind, sku, quantity and, if known, id, location, `to_location`, channel,
    /// reference, reason, `occurred_at`.
    file: PathBuf,
    /// Imports what is right of a file in which rows are wrong.
    #[arg(long)]
    skip_bad: bool,
    /// Checks the file, and changes nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    target: Target,
}

/// Rows that were told and rows that were only counted.
#[derive(Default)]
struct Told {
    count: u64,
}

impl Told {
    fn tell(&mut self, file: &std::path::Path, line: u64, why: &str) {
        self.count += 1;
        if self.count <= TOLD_MAX {
            say_error(&format!("{}:{line}: {why}", file.display()));
        } else if self.count == TOLD_MAX + 1 {
            say_error("and more: only the first are told");
        }
    }
}

pub(super) async fn run(import: Import) -> Result<(), Failure> {
    let api = Api { client: client(&import.target)? };
    let locations = api.call(Method::GET, "/v1/locations", None).await?;
    let main = locations.pointer("/locations/0").and_then(Value::as_str).unwrap_or("main");
    let survey = survey(&import, main)?;
    let Survey { rows, passed, bad, .. } = survey;
    if bad > 0 && !import.skip_bad {
        let nothing = "nothing was imported; correct them, or import the others with --skip-bad";
        return Err(Failure::Operation(format!(
            "{bad} of {} rows are wrong: {nothing}",
            rows + bad
        )));
    }
    let (kind, mut done) = (survey.kind, Done::default());
    if !import.dry_run {
        done = send(&import, api, main, &survey).await?;
    }
    let answer = json!({
        "kind": kind.name(), "rows": rows, "bad": bad, "passed_over": passed, "dry_run": import.dry_run,
        "imported": done.imported, "repeated": done.repeated, "refused": done.refused,
    });
    let said = if import.dry_run {
        format!("{rows} {} could be imported, {bad} rows are wrong", kind.name())
    } else {
        let Done { imported, repeated, refused } = done;
        format!(
            "{imported} {} imported, {repeated} were before, {refused} refused, {bad} rows are wrong",
            kind.name()
        )
    };
    let holds = (passed > 0)
        .then(|| vec![format!("{passed} lines of reservations and escrow passed over")]);
    show(&import.target, &answer, |_| {
        std::iter::once(vec![said.clone()]).chain(holds.clone()).collect()
    });
    match done.refused {
        0 => Ok(()),
        refused => Err(Failure::Operation(format!("{refused} rows were refused by the cluster"))),
    }
}

/// What a first reading of the file found.
struct Survey {
    kind: Kind,
    /// The first twelve digits of its SHA-256.
    hash: String,
    rows: u64,
    /// Rows that are right and mean nothing here.
    passed: u64,
    bad: u64,
}

/// What became of the rows that were sent.
#[derive(Default)]
struct Done {
    imported: u64,
    repeated: u64,
    refused: u64,
}

/// Reads the whole file and tells every fault.
fn survey(import: &Import, main: &str) -> Result<Survey, Failure> {
    let size = std::fs::metadata(&import.file).map_or(0, |file| file.len());
    let bar = progress(size);
    let (mut reader, mut told, mut rows, mut passed) =
        (Reader::open(import, main)?, Told::default(), 0, 0);
    while let Some((line, checked)) = reader.next()? {
        bar.set_position(reader.rows.bytes());
        match checked {
            Ok(Checked::Row(_)) => rows += 1,
            Ok(Checked::Nothing) => passed += 1,
            Err(why) => bar.suspend(|| told.tell(&import.file, line, &why)),
        }
    }
    bar.finish_and_clear();
    let hash = hex(&reader.rows.hash()).chars().take(12).collect();
    let kind = reader.checker.as_ref().map_or(Kind::Levels, Checker::kind);
    Ok(Survey { kind, hash, rows, passed, bad: told.count })
}

/// The rows of the file, each with what is wrong with it or what it means.
struct Reader<'a> {
    import: &'a Import,
    main: &'a str,
    rows: Rows,
    /// Known from the first row on.
    checker: Option<Checker>,
}

type Read = (u64, Result<Checked, String>);

impl<'a> Reader<'a> {
    fn open(import: &'a Import, main: &'a str) -> Result<Self, Failure> {
        let rows = Rows::open(&import.file).map_err(Failure::Operation)?;
        let mut reader = Self { import, main, rows, checker: None };
        if let Some(columns) = reader.rows.columns() {
            let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
            reader.checker = Some(reader.checker_of(&columns, 1)?);
        }
        Ok(reader)
    }

    fn checker_of(&self, columns: &[&str], line: u64) -> Result<Checker, Failure> {
        let checker = Checker::new(columns, self.main);
        let name = self.import.file.display();
        checker.map_err(|why| Failure::Operation(format!("{name}:{line}: {why}")))
    }

    fn next(&mut self) -> Result<Option<Read>, Failure> {
        let row = match self.rows.next() {
            None => return Ok(None),
            Some(Err(Fault { line, why, fatal: true })) => {
                let name = self.import.file.display();
                return Err(Failure::Operation(format!("{name}:{line}: {why}")));
            }
            Some(Err(Fault { line, why, .. })) => return Ok(Some((line, Err(why)))),
            Some(Ok(row)) => row,
        };
        let mut rules = if let Some(known) = self.checker.take() {
            known
        } else {
            let columns: Vec<&str> = row.cells.iter().map(|(name, _)| name.as_str()).collect();
            self.checker_of(&columns, row.line)?
        };
        let checked = rules.check(&row);
        self.checker = Some(rules);
        Ok(Some((row.line, checked)))
    }
}

/// Reads the file again and sends what is right of it, batch by batch.
async fn send(import: &Import, api: Api, main: &str, survey: &Survey) -> Result<Done, Failure> {
    let bar = progress(survey.rows);
    let begin = api.call(Method::GET, "/v1/stock?limit=1", None).await?;
    // An empty ledger has no reading: whatever moves there from now on makes a count stale.
    let index = begin.pointer("/items/0/as_of/index").and_then(Value::as_u64).unwrap_or(0);
    let mut sender = Sender {
        import,
        api,
        index,
        bar,
        kind: survey.kind,
        done: Done::default(),
        told: Told::default(),
    };
    let mut reader = Reader::open(import, main)?;
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while let Some((line, checked)) = reader.next()? {
        let Ok(Checked::Row(mut movement)) = checked else { continue };
        if let Some(fields) = movement.as_object_mut() {
            let id = json!(format!("import:{}:{line}", survey.hash));
            fields.entry("id").or_insert(id);
        }
        bytes += movement.to_string().len();
        batch.push((line, movement));
        if batch.len() >= BATCH_ROWS || bytes >= BATCH_BYTES {
            sender.send(std::mem::take(&mut batch)).await?;
            bytes = 0;
        }
    }
    sender.send(batch).await?;
    sender.bar.finish_and_clear();
    Ok(sender.done)
}

/// Where rows go.
struct Sender<'a> {
    import: &'a Import,
    api: Api,
    /// Log index before the first row: a count is stale if anything moved there since, and is refused.
    index: u64,
    bar: ProgressBar,
    kind: Kind,
    done: Done,
    told: Told,
}

/// Movements with their lines.
type Batch = Vec<(u64, Value)>;

impl Sender<'_> {
    async fn send(&mut self, batch: Batch) -> Result<(), Failure> {
        if batch.is_empty() {
            return Ok(());
        }
        let count = u64::try_from(batch.len()).unwrap_or(0);
        let sent = async {
            let mut refused = self.post(batch).await?;
            if self.kind == Kind::Levels && !refused.is_empty() {
                // Nobody knows the SKU yet. What moved meanwhile is refused again.
                self.create(&refused).await?;
                let again = refused.into_iter().map(|(row, _)| row).collect();
                refused = self.post(again).await?;
            }
            Ok(refused)
        };
        let refused = sent.await.map_err(|failure| self.explain(failure))?;
        for ((line, _), why) in refused {
            self.done.refused += 1;
            let (told, file) = (&mut self.told, &self.import.file);
            self.bar.suspend(|| told.tell(file, line, &why));
        }
        self.bar.inc(count);
        Ok(())
    }

    /// Books movements; those that were refused, with why.
    async fn post(&mut self, batch: Batch) -> Result<Vec<((u64, Value), String)>, Failure> {
        let mut rows: Batch = batch;
        for (_, row) in &mut rows {
            if let Some(fields) = row.as_object_mut().filter(|row| row.contains_key("count")) {
                fields.insert("as_of".into(), json!(self.index));
            }
        }
        let movements: Vec<&Value> = rows.iter().map(|(_, movement)| movement).collect();
        let body = json!({ "movements": movements });
        let answer = self.api.call(Method::POST, "/v1/movements", Some(&body)).await?;
        let results = answer.get("results").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut refused = Vec::new();
        for (row, result) in rows.into_iter().zip(results) {
            match (result.get("outcome").and_then(Value::as_str), self.kind) {
                (Some("applied"), _) => self.done.imported += 1,
                // A level was counted against another index the first time, under the same id.
                (Some("duplicate"), _) | (Some("conflict"), Kind::Levels) => {
                    self.done.repeated += 1;
                }
                _ => {
                    let why = result.get("why").and_then(Value::as_str).unwrap_or("refused");
                    refused.push((row, why.to_string()));
                }
            }
        }
        Ok(refused)
    }

    /// Creates SKUs at zero, if they are new.
    async fn create(&self, rows: &[((u64, Value), String)]) -> Result<(), Failure> {
        let skus = rows.iter().filter_map(|((_, row), _)| row.get("sku")?.as_str());
        let skus: std::collections::BTreeSet<&str> = skus.collect();
        let created = futures::stream::iter(skus).map(|sku| async move {
            let path = format!("/v1/skus/{}", encode(sku));
            self.api.call(Method::PUT, &path, Some(&json!({}))).await.map(drop)
        });
        created.buffer_unordered(CREATING).try_collect::<()>().await
    }

    fn explain(&self, failure: Failure) -> Failure {
        let Done { imported, repeated, .. } = self.done;
        match failure {
            Failure::Operation(why) => Failure::Operation(format!(
                "{why} ({} rows are imported; the same file can be imported again)",
                imported + repeated
            )),
            usage @ Failure::Usage(_) => usage,
        }
    }
}

/// A node that may be busy, or electing: nothing that is sent here counts twice.
struct Api {
    client: Client,
}

impl Api {
    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let mut tries = 1;
        loop {
            match self.client.call(method.clone(), path, body).await {
                Ok(answer) => return Ok(answer),
                Err(error) if tries < TRIES && is_passing(&error) => {
                    tokio::time::sleep(PAUSE * tries).await;
                    tries += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn is_passing(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } => true,
        Error::Refused { status, .. } => *status == hyper::StatusCode::SERVICE_UNAVAILABLE,
        Error::Setup(_) => false,
    }
}
