//! The words of `member`, `move-leader` and `alarm`.

use clap::{Args, Subcommand};

/// The commands of `member`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Member {
    #[command(subcommand)]
    pub(crate) command: MemberCommand,
}

/// What can be done with members.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum MemberCommand {
    /// List the members.
    #[command(after_help = "\
Example:
  jangada member list -o table")]
    List,
    /// Let another server in; prints the environment to start it with.
    #[command(after_help = "\
Examples:
  jangada member add m4 --peer-urls http://10.0.0.4:2380
  jangada member add m4 --peer-urls http://10.0.0.4:2380 --learner

The new server is started with an empty data directory and what this command prints, next to its
own --listen-peer-urls, --listen-client-urls and --advertise-client-urls. It receives the log
first and votes once it holds it; a server added as a learner votes after 'member promote'.
With --at-once it counts from the start: the cluster may have no majority until it has caught up,
so use it only when you know why.")]
    Add(MemberAdd),
    /// Remove a member for good: its server stops, and it cannot come back with its old data.
    #[command(after_help = "\
Example:
  jangada member remove 8211f1d0f64f3269

To replace a server that has lost its disk, remove its member and add it as a new one.")]
    Remove(MemberId),
    /// Make a learner that holds the log a voter.
    #[command(after_help = "\
Example:
  jangada member promote 8211f1d0f64f3269")]
    Promote(MemberId),
    /// Change the URLs by which the other members reach a member.
    #[command(after_help = "\
Example:
  jangada member update 8211f1d0f64f3269 --peer-urls http://10.0.0.7:2380")]
    Update(MemberUpdate),
}

/// Options of `member add`.
#[derive(Args, Clone, Debug)]
pub(crate) struct MemberAdd {
    /// The new member's name
    pub(crate) name: String,
    /// Where the other members will reach it
    #[arg(long, value_delimiter = ',', required = true)]
    pub(crate) peer_urls: Vec<String>,
    /// Add a member that receives the log and does not vote
    #[arg(long)]
    pub(crate) learner: bool,
    /// Count its vote at once, before it holds the log
    #[arg(long, conflicts_with = "learner")]
    pub(crate) at_once: bool,
}

/// Names a member.
#[derive(Args, Clone, Debug)]
pub(crate) struct MemberId {
    /// The member's id, as 'member list' prints it
    #[arg(value_parser = member_id)]
    pub(crate) id: u64,
}

/// Options of `member update`.
#[derive(Args, Clone, Debug)]
pub(crate) struct MemberUpdate {
    /// The member's id, as 'member list' prints it
    #[arg(value_parser = member_id)]
    pub(crate) id: u64,
    /// Where the other members reach it
    #[arg(long, value_delimiter = ',', required = true)]
    pub(crate) peer_urls: Vec<String>,
}

/// The commands of `alarm`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Alarm {
    #[command(subcommand)]
    pub(crate) command: AlarmCommand,
}

/// What can be done with alarms.
#[derive(Subcommand, Clone, Copy, Debug)]
pub(crate) enum AlarmCommand {
    /// List the alarms that are raised.
    #[command(after_help = "\
Example:
  jangada alarm list")]
    List,
    /// End all alarms; prints those that were raised.
    #[command(after_help = "\
Example:
  jangada alarm disarm

Free space first: an alarm whose cause is still there is raised again.")]
    Disarm,
}

fn member_id(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text.trim_start_matches("0x"), 16)
        .map_err(|_| "write a member's id in hexadecimal, as 'member list' prints it".to_owned())
}
