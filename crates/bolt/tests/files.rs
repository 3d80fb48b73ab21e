//! What was written is read back, and what is damaged is told.

use std::collections::BTreeMap;
use std::convert::Infallible;

use jangada_bolt::{Content, Item, PAGE_BYTES, Reader, WalkError, plan, write};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

type Buckets = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

fn fill(buckets: &Buckets) -> impl Fn(&mut Content<'_, Infallible>) -> Result<(), Infallible> {
    move |content| {
        for (name, entries) in buckets {
            content.bucket(name)?;
            for (key, value) in entries {
                content.put(key, value)?;
            }
        }
        Ok(())
    }
}

fn file_of(buckets: &Buckets) -> Vec<u8> {
    let Ok(plan) = plan(fill(buckets));
    let mut file = Vec::new();
    let mut out = |bytes: &[u8]| {
        assert!(bytes.len().is_multiple_of(PAGE_BYTES));
        file.extend_from_slice(bytes);
        Ok(())
    };
    let Ok(()) = write(&plan, &mut out, fill(buckets));
    assert_eq!(file.len() as u64, plan.bytes());
    file
}

fn read(file: &[u8]) -> Result<Buckets, String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let reader = Reader::open(file, file.len() as u64).map_err(|error| told(&error))?;
    let mut buckets = Buckets::new();
    let mut name = Vec::new();
    let walked = reader.walk::<Infallible>(&mut |item| {
        match item {
            Item::Bucket(begins) => {
                name = begins.to_vec();
                buckets.insert(name.clone(), BTreeMap::new());
            }
            Item::Entry { key, value } => {
                let bucket = buckets.get_mut(&name).expect("its bucket has begun");
                bucket.insert(key.to_vec(), value.to_vec());
            }
        }
        Ok(())
    });
    match walked {
        Ok(()) => Ok(buckets),
        Err(WalkError::Read(error)) => Err(told(&error)),
    }
}

fn of_numbers(numbers: std::ops::Range<u64>, value_bytes: usize) -> BTreeMap<Vec<u8>, Vec<u8>> {
    numbers.map(|n| (n.to_be_bytes().to_vec(), vec![n as u8; value_bytes])).collect()
}

#[test]
fn trees_of_any_height_come_back() {
    for entries in [0, 1, 2, 35, 36, 37, 200, 20_000, 40_000] {
        let small = of_numbers(0..3, 5);
        let buckets = Buckets::from([
            (b"a".to_vec(), small.clone()),
            (b"key".to_vec(), of_numbers(0..entries, 80)),
            (b"z".to_vec(), BTreeMap::new()),
        ]);
        assert_eq!(read(&file_of(&buckets)).as_ref(), Ok(&buckets), "{entries} entries");
    }
}

#[test]
fn entries_longer_than_a_page_come_back() {
    let mut entries = of_numbers(0..10, 100);
    for (n, bytes) in [(3_u64, 5_000), (5, 100_000), (6, 4064), (7, 4065), (8, 3_000_000)] {
        entries.insert(n.to_be_bytes().to_vec(), vec![7; bytes]);
    }
    let buckets = Buckets::from([(b"key".to_vec(), entries)]);
    assert_eq!(read(&file_of(&buckets)), Ok(buckets));
}

#[test]
fn a_file_without_buckets_is_one() {
    assert_eq!(read(&file_of(&Buckets::new())), Ok(Buckets::new()));
}

#[test]
fn one_sound_meta_page_is_enough() {
    let buckets = Buckets::from([(b"key".to_vec(), of_numbers(0..500, 50))]);
    let file = file_of(&buckets);
    for page in 0..2 {
        let mut damaged = file.clone();
        damaged[page * PAGE_BYTES + 20] ^= 1;
        assert_eq!(read(&damaged).as_ref(), Ok(&buckets));
    }
    let mut damaged = file;
    damaged[20] ^= 1;
    damaged[PAGE_BYTES + 20] ^= 1;
    assert!(read(&damaged).expect_err("neither is sound").contains("no database"));
}

#[test]
fn loops_and_wild_numbers_are_told() {
    let buckets = Buckets::from([(b"key".to_vec(), of_numbers(0..5000, 50))]);
    let file = file_of(&buckets);
    let pages = file.len() / PAGE_BYTES;
    let flags = |page: usize| file[page * PAGE_BYTES + 8];
    let branch = (3..pages).find(|page| flags(*page) == 1).expect("there is a branch");
    let leaf = (3..pages).find(|page| flags(*page) == 2).expect("there is a leaf");
    // A place in a page, what is written there, and a word of what is said of it.
    let cases: [(usize, usize, &[u8], &str); 10] = [
        (leaf, 36, &file[leaf * PAGE_BYTES + 20..][..4], "overlap"),
        (branch, 24, &(branch as u64).to_le_bytes(), "two places"),
        (branch, 24, &(1_u64 << 60).to_le_bytes(), "end of the file"),
        (branch, 24, &0_u64.to_le_bytes(), "neither"),
        (leaf, 0, &9999_u64.to_le_bytes(), "another number"),
        (leaf, 8, &7_u16.to_le_bytes(), "neither"),
        (leaf, 10, &u16::MAX.to_le_bytes(), "more elements"),
        (leaf, 12, &u32::MAX.to_le_bytes(), "end of the file"),
        (leaf, 20, &u32::MAX.to_le_bytes(), "ends behind"),
        (leaf, 16, &1_u32.to_le_bytes(), "bucket within"),
    ];
    for (page, at, bytes, what) in cases {
        let mut damaged = file.clone();
        let at = page * PAGE_BYTES + at;
        damaged[at..at + bytes.len()].copy_from_slice(bytes);
        let error = read(&damaged).expect_err("it is damaged");
        assert!(error.contains(what), "{what}: {error}");
    }
    assert!(read(&file[..file.len() / 2]).is_err(), "it is cut");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_written_is_read(
        buckets in btree_map(
            vec(any::<u8>(), 1..20),
            btree_map(vec(any::<u8>(), 1..40), vec(any::<u8>(), 0..600), 0..60),
            0..8,
        ),
    ) {
        prop_assert_eq!(read(&file_of(&buckets)), Ok(buckets));
    }

    #[test]
    fn no_damage_is_more_than_an_error(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let buckets = Buckets::from([(b"key".to_vec(), of_numbers(0..500, 50))]);
        let mut file = file_of(&buckets);
        let at = at.index(file.len());
        file[at] = byte;
        drop(read(&file));
    }
}
