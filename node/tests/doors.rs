//! The doors of a real node, seen from outside: HTTP, the command line, MCP over stdin and stdout.
//!
//! Every test starts the `aquifer` binary in a home of its own and stops what it started.

#[path = "doors/daemon.rs"]
mod daemon;
#[path = "doors/http.rs"]
mod http;
#[path = "doors/import.rs"]
mod import;
#[path = "doors/scripts.rs"]
mod scripts;
#[path = "doors/stdio.rs"]
mod stdio;
