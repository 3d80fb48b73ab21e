//! The `jangada` binary: the server, a cluster for trying things out, a client, benchmarks, and the
//! simulation.
//!
//! Responsible for the command line and for printing. Called by the name `etcd`, or with the
//! server's flags and no command, it is the server, so that a link drops it in where etcd was.
//!
//! Exit status: 0 done, 1 failed, 2 wrong command line. Results go to the standard output, and
//! everything else to the standard error.

mod arguments;
mod client;
mod commands;
mod dev;
mod failure;
mod output;
mod server;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, CLIENT_FLAGS, Command};
use failure::Failure;

/// Measured: 8 % less CPU in the server than with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let program = words.next().unwrap_or_else(|| OsString::from("jangada"));
    match run(&program, words.collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, Failure::Told) {
                eprintln!("{}: {failure}", name_of(&program));
            }
            ExitCode::from(failure.exit_status())
        }
    }
}

fn run(program: &OsString, words: Vec<OsString>) -> Result<(), Failure> {
    if let Some(flags) = server_flags(program, &words) {
        return server::run(flags.to_vec());
    }
    let mut arguments = Arguments::parse_from(std::iter::once(program.clone()).chain(words));
    arguments.client.login.complete(commands::user::typed)?;
    arguments.client.discover()?;
    let client = &arguments.client;
    match &arguments.command {
        Command::Server { flags } => server::run(flags.clone()),
        Command::Dev(options) => dev::run(options, program),
        Command::Put(put) => commands::kv::put(client, put),
        Command::Get(get) => commands::kv::get(client, get),
        Command::Del(delete) => commands::kv::delete(client, delete),
        Command::Watch(watch) => commands::watch::run(client, watch),
        Command::Txn(txn) => commands::txn::run(client, txn),
        Command::Compact(compact) => commands::kv::compact(client, compact),
        Command::Lease(lease) => commands::lease::run(client, lease),
        Command::Lock(lock) => commands::lock::lock(client, lock),
        Command::Elect(elect) => commands::lock::elect(client, elect),
        Command::Status(status) => commands::status::run(client, status),
        Command::Member(member) => commands::member::run(client, member),
        Command::MoveLeader(to) => commands::leader::run(client, to),
        Command::Alarm(alarm) => commands::alarm::run(client, alarm),
        Command::Auth(auth) => commands::auth::run(client, auth),
        Command::User(user) => commands::user::run(client, user),
        Command::Role(role) => commands::role::run(client, role),
        Command::Snapshot(snapshot) => commands::snapshot::run(client, snapshot),
        Command::MakeMirror(mirror) => commands::mirror::run(client, mirror),
        Command::Endpoint(endpoint) => commands::endpoint::run(client, endpoint),
        Command::Defrag(defrag) => commands::endpoint::defrag(client, defrag),
        Command::Check(check) => commands::check::run(client, check),
        Command::Completion(completion) => {
            commands::completion::run(completion);
            Ok(())
        }
        Command::Log(log) => commands::log::run(client, log),
        Command::Bench(bench) => commands::bench::run(client, bench),
        Command::Sim(sim) => commands::sim::run(client, sim),
    }
}

/// The program's name without its path.
fn name_of(program: &OsString) -> String {
    let name = Path::new(program).file_name().unwrap_or(program.as_os_str());
    name.to_string_lossy().into_owned()
}

/// The server's flags, if the line means the server: the program is named `etcd`, the first word
/// is `server`, or it is a flag that is not the client's.
fn server_flags<'a>(program: &OsString, words: &'a [OsString]) -> Option<&'a [OsString]> {
    if name_of(program) == "etcd" {
        return Some(words);
    }
    let first = words.first()?.to_str()?;
    if first == "server" {
        return Some(&words[1..]);
    }
    let flag = first.strip_prefix('-')?.trim_start_matches('-');
    let name = flag.split('=').next().unwrap_or(flag);
    (!CLIENT_FLAGS.contains(&name)).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(program: &str, line: &str, expect: Option<&str>) {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let flags = server_flags(&OsString::from(program), &words);
        let flags = flags.map(|flags| {
            flags.iter().map(|f| f.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        });
        assert_eq!(flags.as_deref(), expect, "{program} {line}");
    }

    #[test]
    fn the_line_that_means_the_server() {
        check("/usr/bin/etcd", "", Some(""));
        check("/usr/bin/etcd", "--name a", Some("--name a"));
        check("etcd", "put a b", Some("put a b"));
        check("jangada", "server --name a", Some("--name a"));
        check("jangada", "--name a", Some("--name a"));
        check("jangada", "-name=a", Some("-name=a"));
        check("jangada", "--version", Some("--version"));
    }

    #[test]
    fn the_line_that_does_not() {
        check("jangada", "", None);
        check("jangada", "get a", None);
        check("jangada", "--endpoints a:1 get a", None);
        check("jangada", "--endpoints=a:1 get a", None);
        check("jangada", "-o json get a", None);
        check("jangada", "--help", None);
        check("jangada", "-h", None);
    }
}
