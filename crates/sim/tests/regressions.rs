//! Runs that failed once, from the files that were written for them: each must hold.

use std::path::Path;

use jangada_sim::run::explore::tell;
use jangada_sim::run::regression::Regression;
use jangada_sim::run::scenario::scenario;

/// Runs what a file says; why it does not hold, if it does not.
fn check(stem: &str, text: &str) -> Result<(), String> {
    let regression: Regression = text.parse()?;
    if regression.name != stem {
        return Err(format!("it is named {}", regression.name));
    }
    let world = scenario(&regression.world).ok_or("there is no such world")?;
    world
        .run(&regression.plan)
        .map(|_| ())
        .map_err(|failure| tell(world, &regression.plan, &failure).to_string())
}

#[test]
fn every_run_that_failed_once_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let entries = std::fs::read_dir(&folder).expect("the folder is there");
    for entry in entries {
        let file = entry.expect("it can be listed").path();
        if file.extension().is_none_or(|extension| extension != "regression") {
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("it can be read");
        let stem = file.file_stem().and_then(|stem| stem.to_str()).expect("names are text");
        check(stem, &text).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
    }
}

#[test]
fn a_run_is_read_and_run_and_one_that_cannot_be_is_told() {
    let good = "name = quiet\nworld = tally\nviolated = nothing\nseed = 1\nmembers = 3\n\
                seconds = 1\nfaults = message-lost=0.01,power-lost=0.02\nleft-out = power-lost 1";
    assert_eq!(check("quiet", good), Ok(()));
    for (stem, text) in [
        ("other", good.to_owned()),
        ("quiet", good.replace("tally", "nowhere")),
        ("quiet", good.replace("power-lost 1", "power-lost x")),
    ] {
        assert!(check(stem, &text).is_err(), "{stem}: {text}");
    }
}
