//! The `aquifer` binary: parses, logs to stderr, runs, and ends with the exit code.

use aquifer_node::cli::{self, Cli, LogFormat};
use tracing_subscriber::EnvFilter;

fn main() {
    // Before anything else: a job's stage is this binary started anew, and must have one thread.
    if let Some(code) = aquifer_runner::stage::entered(std::env::args_os()) {
        std::process::exit(code.into());
    }
    let code = match cli::parse(std::env::args_os()) {
        Ok(cli) => run(cli),
        Err(code) => code,
    };
    // Ends even while a thread waits for a stdin that nobody closes.
    std::process::exit(code.into());
}

fn run(cli: Cli) -> u8 {
    log(&cli);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(cli.run()),
        Err(cause) => {
            tracing::error!(%cause, "this system starts no threads");
            1
        }
    }
}

/// Logs go to stderr alone: stdout is for data, and in `aquifer mcp` for the protocol.
fn log(cli: &Cli) {
    let filter =
        EnvFilter::try_from_env("AQUIFER_LOG").unwrap_or_else(|_| EnvFilter::new(cli.log_filter()));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match cli.log_format() {
        LogFormat::Json => logs.json().init(),
        LogFormat::Text => {
            let colours = std::env::var_os("NO_COLOR").is_none()
                && std::io::IsTerminal::is_terminal(&std::io::stderr());
            logs.with_ansi(colours).init();
        }
    }
}
