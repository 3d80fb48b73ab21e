//! Requests about members, leaders and alarms that a real etcd and Jangada must answer alike: refusals
//! by code and text, and answers as far as they do not name ids and addresses of their own. What is
//! known to differ is in `table.rs`.

use std::fmt::Write as _;

use jangada_server::proto::etcdserverpb::alarm_request::AlarmAction;
use jangada_server::proto::etcdserverpb::{AlarmRequest, AlarmType, Member};
use tonic::Status;

use crate::support::cluster::Cluster;
use crate::support::until;

/// An id that no member has.
const NOBODY: u64 = 4711;

/// Asks one cluster of a single member everything in the list, one after the other. Each line is a
/// question and its answer.
pub(crate) async fn transcript(cluster: &Cluster) -> String {
    let mut asked = Asked::of(cluster).await;
    for bad in [&[][..], &["127.0.0.1:1"], &["http://127.0.0.1"], &["x"], &["ftp://a:1"]] {
        asked.add(bad, false).await;
        asked.add(bad, true).await;
    }
    asked.add(&["http://127.0.0.1:1/path"], false).await;
    let own_url = cluster.members[0].peer_url.clone();
    asked.add(&[&own_url], false).await;
    asked.add(&["http://127.0.0.1:1", &own_url], true).await;
    asked.remove("nobody", NOBODY).await;
    asked.remove("itself", asked.own).await;
    asked.promote("nobody", NOBODY).await;
    asked.promote("itself", asked.own).await;
    asked.update("nobody", NOBODY, &["http://127.0.0.1:1"]).await;

    let learner = asked.add(&["http://127.0.0.1:1"], true).await.expect("a learner may come");
    asked.list().await;
    asked.add(&["http://127.0.0.1:2"], true).await;
    // With another URL: etcd makes the id from the URLs and the second of the day.
    asked.add(&["http://127.0.0.1:8", "http://127.0.0.1:1"], false).await;
    asked.promote("the learner that does not run", learner).await;
    asked.move_leader("the learner", learner).await;
    asked.move_leader("nobody", NOBODY).await;
    asked.move_leader("itself", asked.own).await;
    asked.update("the learner", learner, &[&own_url]).await;
    asked.update("the learner", learner, &["http://127.0.0.1:3", "http://127.0.0.1:2"]).await;
    asked.list().await;
    asked.remove("itself, of two", asked.own).await;
    asked.remove("the learner", learner).await;
    asked.remove("the learner again", learner).await;
    asked.promote("the learner that is gone", learner).await;
    asked.update("the learner that is gone", learner, &["http://127.0.0.1:9"]).await;
    asked.list().await;

    use AlarmAction::{Activate, Deactivate, Get};
    use AlarmType::{Corrupt, None as NoKind, Nospace};
    asked.put().await;
    for (action, member, kind) in [
        (Get, 0, NoKind),
        (Activate, 7, NoKind),
        (Deactivate, 7, Nospace),
        (Deactivate, 7, NoKind),
        (Activate, 7, Nospace),
        (Activate, 7, Nospace),
        (Get, 0, NoKind),
        (Get, 0, Nospace),
        (Get, 0, Corrupt),
        (Activate, 8, Nospace),
        (Deactivate, 7, Corrupt),
        (Deactivate, 7, Nospace),
    ] {
        asked.alarm(action, member, kind).await;
        asked.put().await;
    }
    asked.alarm(Deactivate, 8, Nospace).await;
    asked.put().await;
    asked.alarm(Activate, 9, Corrupt).await;
    asked.put().await;
    asked.get().await;
    asked.alarm(Deactivate, 9, Corrupt).await;
    asked.put().await;
    asked.transcript
}

/// Asks a follower what only a leader answers.
pub(crate) async fn ask_a_follower(cluster: &Cluster) -> String {
    let leader = cluster.leader().await;
    let follower = (leader + 1) % cluster.members.len();
    let to = cluster.id(follower).await;
    let answer = |result: Result<(), Status>| refusal_or(result, |()| "done".to_owned());
    let mut transcript = String::new();
    for (name, to) in [("itself", to), ("nobody", NOBODY)] {
        let answer = answer(cluster.client(follower).move_leader(to).await);
        writeln!(transcript, "a follower hands over to {name}: {answer}").expect("a string");
    }
    transcript
}

struct Asked<'c> {
    cluster: &'c Cluster,
    own: u64,
    own_url: String,
    transcript: String,
}

impl<'c> Asked<'c> {
    async fn of(cluster: &'c Cluster) -> Asked<'c> {
        let own = cluster.id(0).await;
        // A member that has not published itself does not count as started.
        until(async || {
            let listed = cluster.client(0).member_list().await.ok()?;
            listed.members.iter().all(|member| !member.name.is_empty()).then_some(())
        })
        .await;
        let own_url = cluster.members[0].peer_url.clone();
        Asked { cluster, own, own_url, transcript: String::new() }
    }

    /// Notes the answer to a change of the membership. etcd's consensus module drops one that comes
    /// before the last is applied, refused or not, so an entry is put in between.
    async fn note_change(&mut self, question: &str, answer: &str) {
        self.note(question, answer);
        let put = self.cluster.client(0).put_key("between two changes", "").await;
        put.expect("the cluster serves");
    }

    fn note(&mut self, question: &str, answer: &str) {
        let line = format!("{question}: {answer}").replace(&self.own_url, "OWN");
        writeln!(self.transcript, "{line}").expect("a string");
    }

    async fn add(&mut self, urls: &[&str], is_learner: bool) -> Option<u64> {
        let peer_urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
        let answer = self.cluster.client(0).member_add(&peer_urls, is_learner).await;
        let id = answer.as_ref().ok().and_then(|added| Some(added.member.as_ref()?.id));
        let text = refusal_or(answer, |added| {
            let member = added.member.as_ref().expect("the new member is named");
            let revision = added.header.expect("it has a header").revision;
            format!("{} among {}, revision {revision}", shown(member), all(&added.members))
        });
        self.note_change(&format!("add {urls:?}, learner {is_learner}"), &text).await;
        id
    }

    async fn remove(&mut self, name: &str, id: u64) {
        let answer = self.cluster.client(0).member_remove(id).await;
        let text = refusal_or(answer, |()| "done".to_owned());
        self.note_change(&format!("remove {name}"), &text).await;
    }

    async fn promote(&mut self, name: &str, id: u64) {
        let answer = self.cluster.client(0).member_promote(id).await;
        let text = refusal_or(answer, |()| "done".to_owned());
        self.note_change(&format!("promote {name}"), &text).await;
    }

    async fn update(&mut self, name: &str, id: u64, urls: &[&str]) {
        let peer_urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
        let answer = self.cluster.client(0).member_update(id, &peer_urls).await;
        let text = refusal_or(answer, |()| "done".to_owned());
        self.note_change(&format!("update {name} to {urls:?}"), &text).await;
    }

    async fn move_leader(&mut self, name: &str, id: u64) {
        let answer = self.cluster.client(0).move_leader(id).await;
        self.note(&format!("hand over to {name}"), &refusal_or(answer, |()| "done".to_owned()));
    }

    async fn list(&mut self) {
        let answer = self.cluster.client(0).member_list().await;
        let text = refusal_or(answer, |list| all(&list.members));
        self.note("list", &text);
    }

    async fn alarm(&mut self, action: AlarmAction, member_id: u64, kind: AlarmType) {
        let request = AlarmRequest { action: action.into(), member_id, alarm: kind.into() };
        let answer = self.cluster.client(0).alarm(request).await;
        let text = refusal_or(answer, |answer| {
            let alarm = |alarm: &jangada_server::proto::etcdserverpb::AlarmMember| {
                format!("{} of {}", alarm.alarm().as_str_name(), alarm.member_id)
            };
            let alarms: Vec<String> = answer.alarms.iter().map(alarm).collect();
            format!("[{}]", alarms.join(", "))
        });
        self.note(&format!("alarm {action:?} {member_id} {kind:?}"), &text);
    }

    async fn put(&mut self) {
        let answer = self.cluster.client(0).put_key("k", "v").await;
        self.note("put", &refusal_or(answer, |revision| format!("revision {revision}")));
    }

    async fn get(&mut self) {
        let answer = self.cluster.client(0).get_key("k").await;
        self.note("get", &refusal_or(answer, |value| format!("{value:?}")));
    }
}

fn refusal_or<T>(answer: Result<T, Status>, shown: impl FnOnce(T) -> String) -> String {
    match answer {
        Ok(answer) => shown(answer),
        Err(status) => format!("refused, {:?}: {}", status.code(), status.message()),
    }
}

/// A member without its id and its client URLs.
fn shown(member: &Member) -> String {
    let Member { name, peer_ur_ls, is_learner, .. } = member;
    format!("{name:?} at {peer_ur_ls:?}, learner {is_learner}")
}

/// Members in an order that does not hang on their ids.
fn all(members: &[Member]) -> String {
    let mut members: Vec<String> = members.iter().map(shown).collect();
    members.sort();
    format!("[{}]", members.join("; "))
}
