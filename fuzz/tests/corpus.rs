//! Every check over the inputs that its corpus starts with, over short and empty ones, over changes
//! of them, and over each input that ever failed. So a target keeps working without a fuzzer.

use std::path::Path;

use jangada_fuzz::{TARGETS, Target};

/// How many changed seeds each target gets: what takes a second or two.
fn changes(target: &Target) -> usize {
    match target.name {
        "world_schedule" => 0,
        "core_schedule" => 40,
        "wal_open" | "wal_sealed" | "snapshot_file" => 400,
        _ => 4_000,
    }
}

fn run(target: &Target, input: &[u8], what: &str) {
    let outcome = std::panic::catch_unwind(|| (target.check)(input));
    assert!(outcome.is_ok(), "{} fails on {what}: {input:?}", target.name);
}

fn seeds_and_changes(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("the target is listed");
    run(target, &[], "nothing");
    let seeds = (target.seeds)();
    assert!(2 < seeds.len(), "{name} starts from something");
    for seed in &seeds {
        run(target, seed, "a seed");
    }
    let mut state = 1_u64;
    let mut random = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (state >> 33) as usize % bound.max(1)
    };
    for _ in 0..changes(target) {
        let mut input = seeds[random(seeds.len())].clone();
        for _ in 0..=random(4) {
            let at = random(input.len());
            match (random(4), input.get_mut(at)) {
                (0, Some(byte)) => *byte ^= 1 << random(8),
                (1, Some(byte)) => *byte = random(256) as u8,
                (2, Some(_)) => input.truncate(at),
                _ => input.insert(at, random(256) as u8),
            }
        }
        run(target, &input, "a changed seed");
    }
}

macro_rules! targets {
    ($($name:ident),*) => {
        $(#[test]
        fn $name() {
            seeds_and_changes(stringify!($name));
        })*

        #[test]
        fn every_target_is_here() {
            let here = [$(stringify!($name)),*];
            assert_eq!(TARGETS.map(|target| target.name), here);
        }
    };
}

targets!(
    wal_open,
    wal_sealed,
    peer_message,
    session,
    stored,
    snapshot_file,
    config,
    grpc,
    core_schedule,
    world_schedule
);

/// `regressions/<target>/<what went wrong>`.
#[test]
fn what_failed_once_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut seen = 0;
    for target in TARGETS {
        let Ok(inputs) = std::fs::read_dir(folder.join(target.name)) else { continue };
        for input in inputs {
            let path = input.expect("the folder can be read").path();
            let bytes = std::fs::read(&path).expect("the file can be read");
            run(&target, &bytes, &path.display().to_string());
            seen += 1;
        }
    }
    assert!(0 < seen, "the inputs that failed are kept");
}
