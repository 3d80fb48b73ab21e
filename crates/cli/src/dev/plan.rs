//! Names and ports of a cluster's members.

use crate::failure::Failure;

/// Ports are ten thousand apart, as etcd's users know them.
const STEP: u32 = 10_000;

/// One member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Member {
    /// `m1`, `m2`, ...
    pub(crate) name: String,
    /// For clients; the next one is for the other members.
    pub(crate) port: u16,
}

impl Member {
    /// `host:port` for clients.
    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `host:port` for the other members.
    pub(crate) fn peer(&self) -> String {
        format!("127.0.0.1:{}", self.port + 1)
    }
}

/// All members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    /// In the order of their ports.
    pub(crate) members: Vec<Member>,
}

impl Plan {
    /// 2379, 22379, 32379 and so on for a base of 2379.
    pub(crate) fn new(count: u16, base_port: u16) -> Result<Plan, Failure> {
        let members = (0..u32::from(count))
            .map(|number| {
                let offset = if number == 0 { 0 } else { (number + 1) * STEP };
                let port = u16::try_from(u32::from(base_port) + offset).ok();
                let port = port.filter(|port| 0 < *port && *port < u16::MAX);
                port.map(|port| Member { name: format!("m{}", number + 1), port })
            })
            .collect::<Option<Vec<_>>>();
        members.map(|members| Plan { members }).ok_or_else(|| {
            Failure::Usage(format!(
                "{count} members do not fit above port {base_port}: the last one would need a \
                 port above 65535; choose a lower --base-port or fewer --members"
            ))
        })
    }

    /// etcd's `--initial-cluster`.
    pub(crate) fn initial_cluster(&self) -> String {
        let parts: Vec<String> = self
            .members
            .iter()
            .map(|member| format!("{}=http://{}", member.name, member.peer()))
            .collect();
        parts.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_those_that_etcds_users_expect() {
        let plan = Plan::new(3, 2379).expect("they fit");
        let endpoints: Vec<String> = plan.members.iter().map(Member::endpoint).collect();
        assert_eq!(endpoints, ["127.0.0.1:2379", "127.0.0.1:22379", "127.0.0.1:32379"]);
        assert_eq!(
            plan.initial_cluster(),
            "m1=http://127.0.0.1:2380,m2=http://127.0.0.1:22380,m3=http://127.0.0.1:32380"
        );
        assert!(Plan::new(6, 2379).is_ok());
    }

    #[test]
    fn ports_that_do_not_exist_are_refused() {
        for (count, base_port) in [(6, 6000), (1, u16::MAX), (1, 0), (3, 40_000)] {
            let failure = Plan::new(count, base_port).expect_err("they do not fit");
            assert_eq!(failure.exit_status(), 2, "{failure}");
        }
    }
}
