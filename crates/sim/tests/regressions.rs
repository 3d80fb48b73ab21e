//! Runs that failed once, from the files that were written for them: each must hold.

use std::path::Path;

use jangada_sim::explore::tell;
use jangada_sim::regression::Regression;
use jangada_sim::scenario::scenario;

#[test]
fn every_run_that_failed_once_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let entries = std::fs::read_dir(&folder).expect("the folder is there");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("it can be listed").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "regression"));
    files.sort();
    assert!(!files.is_empty(), "there are regressions in {}", folder.display());
    for file in files {
        let text = std::fs::read_to_string(&file).expect("it can be read");
        let regression: Regression =
            text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let stem = file.file_stem().and_then(|stem| stem.to_str());
        assert_eq!(stem, Some(regression.name.as_str()), "a file is named as what it holds");
        let world = scenario(&regression.world).expect("there is such a world");
        if let Err(failure) = world.run(&regression.plan) {
            panic!("{}\n{}", regression.name, tell(world, &regression.plan, &failure));
        }
    }
}
