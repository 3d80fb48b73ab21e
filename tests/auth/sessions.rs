//! A session of `etcdctl` about users, unchanged, against Jangada and against a real etcd; and the same
//! session by our own command line.

use std::io::Write;
use std::process::{Command, Stdio};

use super::{COST, LIMIT};
use crate::support::cluster::{Cluster, Plan, Program};
use crate::support::{foreign, run};

/// The commands, in order; words are separated by a bar.
const SESSION: &[&str] = &[
    "auth|enable",
    "user|add|root:root",
    "user|add|root:root",
    "user|list",
    "role|add|r",
    "role|add|r",
    "role|grant-permission|r|read|a",
    "role|grant-permission|r|readwrite|k/|--prefix=true",
    "role|grant-permission|r|write|x|--from-key=true",
    "role|get|r",
    "role|get|none",
    "role|list",
    "user|add|u:u",
    "user|grant-role|u|r",
    "user|grant-role|u|none",
    "user|get|u",
    "user|get|u|--detail",
    "user|revoke-role|u|none",
    "auth|enable",
    "put|a|1",
    "--user=u:wrong|get|a",
    "--user=ghost:ghost|get|a",
    "--user=u:u|get|a",
    "--user=u:u|put|a|1",
    "--user=u:u|put|k/1|1",
    "--user=u:u|put|x|1|--prev-kv",
    "--user=u:u|put|x|1",
    "--user=u:u|get|k/|--prefix",
    "--user=u:u|get|k|--prefix",
    "--user=u:u|del|k/|--prefix",
    "--user=u:u|user|list",
    "--user=u:u|user|get|u",
    "--user=u:u|role|get|r",
    "--user=u:u|role|get|root",
    "--user=root:root|user|list",
    "--user=root:root|role|revoke-permission|r|a",
    "--user=root:root|role|revoke-permission|r|a",
    "--user=root:root|role|revoke-permission|r|k/|--prefix=true",
    "--user=u:u|get|a",
    "--user=root:root|user|revoke-role|root|root",
    "--user=root:root|user|delete|root",
    "--user=root:root|role|delete|r",
    "--user=root:root|user|get|u",
    "--user=root:root|user|revoke-role|u|r",
    "--user=root:root|user|delete|u",
    "--user=root:root|user|delete|u",
    "--user=root|--password=root|user|list",
    "--user=root:root|auth|disable",
    "put|a|2",
    "auth|disable",
];

/// What a command printed, comparable.
#[derive(PartialEq, Debug)]
struct Printed {
    success: bool,
    out: String,
    /// The server's own words.
    error: String,
}

fn ask(mut command: Command, endpoints: &str, words: &[&str]) -> Printed {
    let output = command
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints={endpoints}"))
        .args(words)
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let told = error.lines().find_map(|line| line.find("etcdserver: ").map(|at| &line[at..]));
    Printed {
        success: output.status.success(),
        out: String::from_utf8_lossy(&output.stdout).trim_end().to_owned(),
        error: told.unwrap_or_default().trim_end_matches(['"', '}']).to_owned(),
    }
}

async fn one(program: Program) -> Cluster {
    Plan::new(program, 1).flag("bcrypt-cost", COST).start().await
}

#[test]
fn etcdctl_prints_the_same_about_users_as_against_etcd() {
    let (etcdctls, etcds) = (foreign::etcdctls(), foreign::etcds());
    let Some(etcd) = etcds.last() else { return foreign::skip("etcd") };
    if etcdctls.is_empty() {
        return foreign::skip("etcdctl");
    }
    run(LIMIT, async {
        for program in &etcdctls {
            let (theirs, ours) =
                (one(Program::Etcd(etcd.clone())).await, one(Program::Jangada).await);
            for line in SESSION {
                let words: Vec<&str> = line.split('|').collect();
                let expected = ask(Command::new(&program.path), &theirs.endpoints(), &words);
                let found = ask(Command::new(&program.path), &ours.endpoints(), &words);
                assert_eq!(found, expected, "etcdctl {} {line}", program.version);
            }
        }
    });
}

fn jangada() -> Command {
    Command::new(env!("CARGO_BIN_EXE_jangada"))
}

/// A command of our own, and what it prints.
#[track_caller]
fn told(cluster: &Cluster, line: &str, expected: &str) {
    let words: Vec<&str> = line.split('|').collect();
    let printed = ask(jangada(), &cluster.endpoints(), &words);
    let text = if printed.success { printed.out } else { printed.error };
    assert_eq!(text, expected, "{line}");
}

#[test]
fn our_own_command_line_leads_a_session() {
    run(LIMIT, async {
        let cluster = one(Program::Jangada).await;
        for (line, expected) in [
            ("auth|enable", "etcdserver: root user does not exist"),
            ("user|add|root:root", "User root created"),
            ("role|add|r", "Role r created"),
            ("role|grant-permission|r|read|a", "Role r updated"),
            ("role|grant-permission|r|readwrite|k/|--prefix", "Role r updated"),
            (
                "role|get|r",
                "Role r\nKV Read:\n\ta\n\t[k/, k0) (prefix k/)\nKV Write:\n\t[k/, k0) (prefix k/)",
            ),
            ("user|add|u|--new-user-password=u", "User u created"),
            ("user|grant-role|u|r", "Role r is granted to user u"),
            ("user|get|u", "User: u\nRoles: r"),
            // The role root is given to the user root on the way.
            ("auth|enable", "Authentication Enabled"),
            ("put|a|1", "etcdserver: user name is empty"),
            (
                "--user=u:wrong|put|k/1|1",
                "etcdserver: authentication failed, invalid user ID or password",
            ),
            ("--user=u:u|put|k/1|1", "OK"),
            ("--user|u|--password=u|get|k/1|--print-value-only", "1"),
            ("--user=u:u|put|a|1", "etcdserver: permission denied"),
            ("--user=root:root|user|list", "root\nu"),
            ("--user=root:root|role|list", "r"),
            ("--user=root:root|auth|status", "Authentication Status: true\nAuthRevision: 8"),
            (
                "--user=root:root|role|revoke-permission|r|a",
                "Permission of key a is revoked from role r",
            ),
            ("--user=root:root|user|revoke-role|u|r", "Role r is revoked from user u"),
            ("--user=root:root|role|delete|r", "Role r deleted"),
            ("--user=root:root|user|delete|u", "User u deleted"),
            ("--user=root:root|auth|disable", "Authentication Disabled"),
            ("put|a|1", "OK"),
        ] {
            told(&cluster, line, expected);
        }
        let mut child = jangada()
            .arg(format!("--endpoints={}", cluster.endpoints()))
            .args(["user", "passwd", "root", "--interactive=false"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut input = child.stdin.take().expect("it is piped");
        input.write_all(b"other\n").expect("the program reads its input");
        drop(input);
        let output = child.wait_with_output().expect("the program ends");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "Password updated\n");
        told(&cluster, "auth|enable", "Authentication Enabled");
        told(&cluster, "--user=root:other|put|a|2", "OK");
    });
}
