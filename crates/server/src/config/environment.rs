//! Reads settings from environment variables: `ETCD_` and the flag in upper case.

use std::collections::BTreeMap;

use super::table;

const PREFIX: &str = "ETCD_";

/// The variable that sets a setting.
#[must_use]
pub fn variable_of(name: &str) -> String {
    format!("{PREFIX}{}", name.to_ascii_uppercase().replace('-', "_"))
}

/// What the environment says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Environment {
    /// Each setting that has a variable which is not empty, with its text.
    pub settings: BTreeMap<&'static str, String>,
    /// Variables with etcd's prefix that belong to no setting, with the nearest one. Kubernetes
    /// makes such variables for a service named `etcd`, so they are told and not refused.
    pub unknown: Vec<(String, Option<String>)>,
}

/// Sorts the variables that begin with etcd's prefix; an empty one counts as not set.
pub(super) fn parse(variables: impl IntoIterator<Item = (String, String)>) -> Environment {
    let known: BTreeMap<String, &'static str> =
        table::all().map(|setting| (variable_of(setting.name), setting.name)).collect();
    let mut environment = Environment::default();
    for (variable, value) in variables {
        if !variable.starts_with(PREFIX) || value.is_empty() {
            continue;
        }
        match known.get(&variable) {
            Some(name) => {
                environment.settings.insert(name, value);
            }
            None => {
                let name = variable[PREFIX.len()..].to_ascii_lowercase().replace('_', "-");
                environment.unknown.push((variable, table::nearest(&name).map(variable_of)));
            }
        }
    }
    environment.unknown.sort();
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_sorted_out() {
        let variables = [
            ("ETCD_NAME", "a"),
            ("ETCD_DATA_DIR", ""),
            ("ETCD_PORT", "tcp://10.0.0.1:2379"),
            ("ETCD_INITAL_CLUSTER", "a=b"),
            ("ETCDCTL_API", "3"),
            ("PATH", "/bin"),
        ];
        let environment = parse(variables.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(environment.settings, BTreeMap::from([("name", "a".to_owned())]));
        assert_eq!(
            environment.unknown,
            [
                ("ETCD_INITAL_CLUSTER".to_owned(), Some("ETCD_INITIAL_CLUSTER".to_owned())),
                ("ETCD_PORT".to_owned(), None),
            ]
        );
    }
}
