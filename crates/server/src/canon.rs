//! Known bugs, each put back by a switch of the store's (`jangada_kv::canon`), to show that the checks
//! find them. In every build that ships they are the constant `false`.

/// Whether the bug of this name is put back: always `false` without the feature `canon`.
macro_rules! canon {
    ($bug:ident) => {
        jangada_kv::canon::is_back(const { jangada_kv::canon::number_of(stringify!($bug)) })
    };
}
