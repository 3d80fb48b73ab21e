//! The servers that a benchmark measures: those that are named, or this one and a real etcd, started for
//! the purpose and removed in the end.

use std::io;

use jangada_bench::Access;
use jangada_bench::cluster_file::ClusterFile;
use serde::Serialize;
use serde_json::json;

use super::compare::{Contestant, PORT_STEP, Workspace, version_of};
use crate::arguments::{self, Format, Measured};
use crate::client::Client;
use crate::failure::Failure;
use crate::output;

/// Servers that are measured together.
pub(super) struct Target {
    /// What they are, for tables.
    pub(super) name: String,
    pub(super) endpoints: Vec<String>,
    pub(super) access: Access,
    pub(super) pids: Vec<u32>,
}

/// Everything that is measured.
pub(super) struct Targets {
    /// This server's last, if etcd's are there.
    pub(super) all: Vec<Target>,
    /// Ended in this order.
    _contestants: Vec<Contestant>,
    _folder: Option<Workspace>,
}

impl Targets {
    /// Finds or starts them.
    pub(super) fn of(client: &arguments::Client, measured: &Measured) -> Result<Targets, Failure> {
        let Some(program) = &measured.etcd else {
            return Ok(Targets {
                all: vec![named(client, measured)?],
                _contestants: Vec::new(),
                _folder: None,
            });
        };
        let version = version_of(program).ok_or_else(|| {
            let problem = format!("{} is no etcd that runs here", program.display());
            Failure::Failed(problem)
        })?;
        let own = std::env::current_exe()
            .map_err(|error| Failure::Failed(format!("this program has no path: {error}")))?;
        let folder = Workspace::make(&measured.work_dir)?;
        let port = measured.base_port;
        let etcd =
            Contestant::start(&folder.path, "etcd", program, port.saturating_add(PORT_STEP))?;
        let jangada = Contestant::start(&folder.path, "jangada", &own, port)?;
        let target = |name: String, contestant: &Contestant| Target {
            name,
            endpoints: contestant.endpoints.clone(),
            access: Access::default(),
            pids: contestant.pids(),
        };
        let all =
            vec![target(format!("etcd {version}"), &etcd), target("jangada".to_owned(), &jangada)];
        Ok(Targets { all, _contestants: vec![etcd, jangada], _folder: Some(folder) })
    }
}

fn named(client: &arguments::Client, measured: &Measured) -> Result<Target, Failure> {
    let (mut endpoints, mut access) = (Vec::new(), Access::default());
    let mut pids = measured.pids.clone();
    if measured.dir.is_none() {
        (endpoints, access) = Client::block_on(Client::new(client).access())?;
    }
    if let Some(folder) = &measured.dir {
        let file = ClusterFile::read(folder)?;
        endpoints = file.endpoints();
        if pids.is_empty() {
            pids = file.members.iter().map(|member| member.pid).collect();
        }
    }
    Ok(Target { name: "servers".to_owned(), endpoints, access, pids })
}

/// What was measured, each with the server's name.
pub(super) type Reports<R> = [(String, R)];

/// Prints what was measured, for programs or as these tables.
pub(super) fn print<R: Serialize>(
    format: Option<Format>,
    reports: &Reports<R>,
    tables: impl FnOnce(&Reports<R>) -> io::Result<()>,
) -> io::Result<()> {
    match format.unwrap_or(Format::Simple) {
        Format::Json => {
            let reports: Vec<_> = reports
                .iter()
                .map(|(server, report)| json!({"server": server, "report": report}))
                .collect();
            output::print_json(&json!({"reports": reports}))
        }
        Format::Simple | Format::Table => tables(reports),
    }
}

/// A row for each server, and below two of them what the second is in parts of the first.
pub(super) fn rows<R>(
    reports: &Reports<R>,
    row: fn(&str, &R) -> Vec<String>,
    ratios: fn(&str, &R, &R) -> Vec<String>,
) -> Vec<Vec<String>> {
    let mut rows: Vec<_> = reports.iter().map(|(name, report)| row(name, report)).collect();
    if let [(_, theirs), (_, ours)] = reports {
        rows.push(ratios("jangada / etcd", ours, theirs));
    }
    rows
}

/// The first of two figures in parts of the second, for tables.
pub(super) fn ratio(ours: f64, theirs: f64) -> String {
    if theirs == 0.0 { String::new() } else { format!("{:.2}", ours / theirs) }
}
