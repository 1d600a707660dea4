//! The command line. Exit codes: 0 done, 1 the operation failed, 2 wrong usage or config.

mod ask;
mod cert;
mod channel;
mod cluster_command;
mod export;
mod import;
mod plan;
mod queue;
mod reservation;
mod rows;
mod serve;
mod sim_marketplace;
mod stock;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{self, Config};
use crate::{demo, sim};

pub(crate) use serve::shutdown;

/// Inventory sync for sellers on several channels, in several regions: one binary a region and
/// nothing else.
#[derive(Parser)]
#[command(name = "stockraft", version, after_help = "Example:\n  stockraft demo --seconds 60")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one regional node; without a config, a newcomer's cluster of one on loopback.
    #[command(after_help = "Example:\n  stockraft serve --config eu.toml")]
    Serve {
        /// The node's config; see config.default.toml.
        #[arg(long)]
        config: Option<PathBuf>,
        /// Stops when standard input is closed, so that no node outlives its parent.
        #[arg(long, hide = true)]
        stop_with_stdin: bool,
    },
    /// Runs a whole cluster on loopback, with simulated stores that sell and receive quantities.
    #[command(
        after_help = "Example:\n  stockraft demo --regions eu,us,apac --rate 50 --seconds 60"
    )]
    Demo(demo::Options),
    /// Simulates a cluster from a seed: nodes, disks, networks, clocks and marketplaces that fail.
    #[command(after_help = "Example:\n  stockraft sim --seed 7 --hours 240 --events 10000")]
    Sim(sim::Options),
    /// Runs one simulated marketplace, to try a set-up of your own against it.
    #[command(
        after_help = "Example:\n  stockraft sim-marketplace --kind woocommerce --items 20 --orders-per-second 2"
    )]
    SimMarketplace(sim_marketplace::Options),
    /// Validates a config and says every fault with its line.
    #[command(after_help = "Example:\n  stockraft check --config eu.toml")]
    Check {
        /// The config to validate.
        #[arg(long)]
        config: PathBuf,
    },
    /// Operates a cluster through the API of one of its nodes.
    #[command(after_help = "Example:\n  stockraft cluster status --node http://127.0.0.1:8081")]
    Cluster {
        #[command(subcommand)]
        command: cluster_command::Command,
    },
    /// Reads and changes the ledger.
    #[command(after_help = "Example:\n  stockraft stock receive MUG-01 100 --reference PO-7")]
    Stock {
        #[command(subcommand)]
        command: stock::Command,
    },
    /// Holds units for somebody, sells them, or lets them go.
    #[command(
        after_help = "Example:\n  stockraft reservation create MUG-01=2 --ttl 15m --reference cart-7"
    )]
    Reservation {
        #[command(subcommand)]
        command: reservation::Command,
    },
    /// Looks into topics, tries again what was given up, and pauses.
    #[command(after_help = "Example:\n  stockraft queue dlq orders.created")]
    Queue {
        #[command(subcommand)]
        command: queue::Command,
    },
    /// Lists the channels, and maps their listings to SKUs.
    #[command(after_help = "Example:\n  stockraft channel map listings.csv")]
    Channel {
        #[command(subcommand)]
        command: channel::Command,
    },
    /// Says which buffer a risk asks for, what it saves and what it costs.
    #[command(after_help = "Example:\n  stockraft plan --sku MUG-01 --lag 15m --risk 0.1%\n  \
                            stockraft plan --velocity 20 --channels 3 --lag 5s --stock 500")]
    Plan(plan::Plan),
    /// Makes the cluster's private authority and the nodes' certificates.
    #[command(
        after_help = "Example:\n  stockraft cert ca && stockraft cert node --id 1 --host eu.example.net"
    )]
    Cert {
        #[command(subcommand)]
        command: cert::Command,
    },
}

/// How to reach a node.
#[derive(Args)]
struct Target {
    /// URL of a node's admin listener.
    #[arg(long, env = "STOCKRAFT_NODE", default_value = "http://127.0.0.1:8081", global = true)]
    node: String,
    /// An admin token.
    #[arg(long, env = "STOCKRAFT_TOKEN", hide_env_values = true, global = true)]
    token: Option<String>,
    /// How to print the answer.
    #[arg(long, value_enum, default_value_t = Output::Table, global = true)]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logging();
    end_with_any_panic();
    plant_bug();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    let outcome = runtime.block_on(run(cli.command));
    // A blocking task that still runs must not hold the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Operation(why)) => fail(&why),
        Err(Failure::Usage(why)) => {
            say_error(&why);
            ExitCode::from(2)
        }
    }
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve { config, stop_with_stdin } => serve::run(config, stop_with_stdin).await,
        Command::Demo(options) => Box::pin(demo::run(options)).await.map_err(Failure::Operation),
        Command::Sim(options) => simulate(options).await,
        Command::SimMarketplace(options) => Box::pin(sim_marketplace::run(options)).await,
        Command::Check { config } => check(&config),
        Command::Cluster { command } => cluster_command::run(command).await,
        Command::Stock { command } => stock::run(command).await,
        Command::Reservation { command } => reservation::run(command).await,
        Command::Queue { command } => queue::run(command).await,
        Command::Channel { command } => channel::run(command).await,
        Command::Plan(plan) => plan::run(plan).await,
        Command::Cert { command } => cert::run(command),
    }
}

/// Why a command did not do what it was asked.
enum Failure {
    /// It failed: exit code 1.
    Operation(String),
    /// It was asked wrongly: exit code 2.
    Usage(String),
}

/// On a thread of its own: a simulation has a clock, and a runtime, of its own.
async fn simulate(options: sim::Options) -> Result<(), Failure> {
    let run = tokio::task::spawn_blocking(move || sim::run(&options, say));
    run.await.map_err(|error| Failure::Operation(error.to_string()))?.map_err(Failure::Operation)
}

fn check(path: &std::path::Path) -> Result<(), Failure> {
    let config = Config::load(path).map_err(|faults| Failure::Usage(faults.to_string()))?;
    for note in config.notes() {
        say(&format!("note: {note}"));
    }
    say(&format!("{}: no faults", path.display()));
    Ok(())
}

fn fail(why: &str) -> ExitCode {
    say_error(&format!("stockraft: {why}"));
    ExitCode::FAILURE
}

/// A panic is for what cannot be. A node in which one thread has died must not go on without it.
fn end_with_any_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

fn start_logging() {
    let filter =
        config::log_filter().unwrap_or_else(|| "warn,stockraft=info,openraft=error".into());
    let filter = tracing_subscriber::EnvFilter::try_new(&filter)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .init();
}

#[cfg(feature = "planted-bugs")]
fn plant_bug() {
    match config::planted_bug().as_deref() {
        None => {}
        Some("skip-fdatasync") => cluster::durable::plant_skip_fdatasync(),
        Some(other) if crate::planted::plant(other) => {}
        Some(other) => say_error(&format!("there is no planted bug {other:?}")),
    }
}

#[cfg(not(feature = "planted-bugs"))]
const fn plant_bug() {}

/// A line for whoever started the process.
#[expect(clippy::print_stdout, reason = "this is what the command line prints with")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// A line about what went wrong.
#[expect(clippy::print_stderr, reason = "this is what the command line complains with")]
pub(crate) fn say_error(line: &str) {
    eprintln!("{line}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn check(command: &clap::Command, path: &str) {
        let path = format!("{path} {}", command.get_name());
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            check(sub, &path);
        }
        if command.has_subcommands() {
            return;
        }
        let said = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(said.contains("Example:\n  stockraft "), "{path} shows no example");
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            assert!(argument.get_help().is_some(), "{path} {} is not explained", argument.get_id());
        }
    }

    // Whoever is in a hurry reads the example, not the manual.
    #[test]
    fn every_command_shows_an_example() {
        Cli::command().debug_assert();
        let mut all = Cli::command();
        all.build();
        check(&all, "");
    }
}
