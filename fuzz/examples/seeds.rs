//! Writes the inputs that the corpora start with, to `corpus/<target>/` beside this package:
//! `cargo run -p jangada-fuzz --example seeds`.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in jangada_fuzz::TARGETS {
        let folder = corpora.join(target.name);
        std::fs::create_dir_all(&folder)?;
        let seeds = (target.seeds)();
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:03}")), seed)?;
        }
        println!("{}: {} seeds", target.name, seeds.len());
    }
    Ok(())
}
