//! The flags of the server: `docs/flags.md` lists each as it is, and what is in force can be seen.

mod support;

use std::collections::BTreeMap;
use std::process::Command;

use jangada_server::config::State;
use jangada_server::config::table;

/// The rows of `docs/flags.md`: the state of each flag, and what is said of it.
fn documented() -> BTreeMap<String, (String, String)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/flags.md");
    let text = std::fs::read_to_string(path).expect("the document is there");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `--"));
    rows.filter_map(|row| {
        let (name, rest) = row.split_once('`')?;
        let mut cells = rest.split(" | ").map(str::trim).skip(2);
        let (state, what) = (cells.next()?, cells.next()?);
        let what = what.trim_end_matches('|').trim();
        Some((name.to_owned(), (state.to_owned(), what.to_owned())))
    })
    .collect()
}

#[test]
fn every_flag_is_documented_as_it_is() {
    let documented = documented();
    for setting in table::all() {
        let state = match setting.state {
            State::Used => "used",
            State::NoEffect(_) => "no effect",
            State::Refused(_) => "refused",
        };
        let expected = Some((state.to_owned(), setting.meaning.to_owned()));
        assert_eq!(documented.get(setting.name), expected.as_ref(), "--{}", setting.name);
    }
    assert_eq!(documented.len(), table::all().count(), "no flag is documented that is none");
}

#[test]
fn what_is_in_force_is_printed_with_where_it_came_from() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let print = |words: &[&str], variables: &[(&str, &str)]| {
        let output = Command::new(env!("CARGO_BIN_EXE_jangada"))
            .arg("server")
            .args(words)
            .arg("--print-config")
            .env_clear()
            .envs(variables.iter().copied())
            .output()
            .expect("the program runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let line = |text: &str, name: &str| {
        let found = text.lines().find(|line| line.starts_with(&format!("{name}:")));
        found.unwrap_or_else(|| panic!("{name} is not printed:\n{text}")).to_owned()
    };
    let text = print(&["--metrics=extensive"], &[("ETCD_MAX_LEARNERS", "3")]);
    let (flag, variable) = (line(&text, "metrics"), line(&text, "max-learners"));
    assert!(flag.contains("extensive") && flag.contains("flag"), "{flag}");
    assert!(variable.contains('3') && variable.contains("ETCD_MAX_LEARNERS"), "{variable}");
    assert!(line(&text, "name").contains("default"), "{text}");

    // What is printed is itself a file of settings, and then says so.
    let path = folder.path().join("settings.yaml");
    std::fs::write(&path, &text).expect("a file can be written");
    let text = print(&["--config-file", &path.display().to_string()], &[]);
    let metrics = line(&text, "metrics");
    assert!(metrics.contains("extensive") && metrics.contains("file"), "{metrics}");
}
