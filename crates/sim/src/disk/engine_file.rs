//! The engine's file on the simulated disk: the state machine's engine breaks by the same rules as
//! the log.

use std::io;

use jangada_wal::File;
use redb::StorageBackend;

use crate::disk::{DiskHandle, SimFile};

/// A file of a [`crate::disk::SimDisk`], as the engine wants it.
#[derive(Clone, Debug)]
pub struct EngineFile {
    file: SimFile,
}

impl EngineFile {
    /// Opens the engine's file, creating it when there is none.
    ///
    /// # Errors
    /// If the process is dead.
    pub fn open(disk: &DiskHandle, name: &str) -> io::Result<EngineFile> {
        Ok(EngineFile { file: disk.open_or_create(name)? })
    }
}

impl StorageBackend for EngineFile {
    fn len(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_length(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choices::Choices;
    use crate::disk::SimDisk;
    use crate::faults::Fault;
    use jangada_wal::Disk;
    use redb::{Database, ReadableDatabase, ReadableTableMetadata, TableDefinition};

    const TABLE: TableDefinition<u64, u64> = TableDefinition::new("numbers");

    fn open(disk: &SimDisk) -> Result<Database, redb::DatabaseError> {
        let file = EngineFile::open(&disk.handle(), "engine").expect("the process is alive");
        Database::builder().create_with_backend(file)
    }

    fn put(database: &Database, number: u64) -> Result<(), redb::Error> {
        let mut transaction = database.begin_write()?;
        transaction.set_quick_repair(true);
        transaction.open_table(TABLE)?.insert(number, number)?;
        transaction.commit()?;
        Ok(())
    }

    fn count(database: &Database) -> u64 {
        let transaction = database.begin_read().expect("readable");
        transaction.open_table(TABLE).expect("there is a table").len().expect("readable")
    }

    #[test]
    fn what_the_engine_has_committed_survives_every_loss_of_power() {
        for seed in 0..30 {
            let mut choices = Choices::of_seed(seed);
            let disk = SimDisk::new();
            let mut database = open(&disk).expect("opened");
            put(&database, 0).expect("committed");
            disk.handle().sync_directory().expect("the name is durable");
            let mut committed = 1;
            disk.die_in_operation(choices.between(1, 40));
            for number in 1..100 {
                if put(&database, number).is_err() {
                    break;
                }
                committed = number + 1;
            }
            assert!(disk.is_dead(), "seed {seed}: the process died in an operation");
            disk.lose_power(&mut choices, &mut |fault, choices| {
                fault == Fault::NameLost && choices.below(2) == 0
            });
            drop(database);
            database = open(&disk).expect("opens again");
            let found = count(&database);
            assert!(
                committed <= found && found <= committed + 1,
                "seed {seed}: {committed} were committed, {found} found"
            );
        }
    }
}
