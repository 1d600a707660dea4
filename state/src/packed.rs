//! A value that is kept as bytes.

use alloc::sync::Arc;
use core::fmt;
use core::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value that lies as bytes until somebody asks for it.
///
/// For what there are millions of and few are looked at: orders, listings. The bytes are a tenth of what the
/// value takes when it can be worked with, and a clone shares them. What is written and hashed is the value:
/// how it lies in memory is no part of what is agreed on.
pub struct Packed<T> {
    bytes: Arc<[u8]>,
    value: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Packed<T> {
    /// Packs a value.
    ///
    /// # Panics
    /// Never with derived types, which can all be packed; the first test that packs one shows it.
    #[must_use]
    pub fn new(value: &T) -> Self {
        let bytes = postcard::to_allocvec(value).expect("derived types can be packed");
        Self { bytes: bytes.into(), value: PhantomData }
    }

    /// The value.
    ///
    /// # Panics
    /// Never: only `new` makes the bytes.
    #[must_use]
    pub fn get(&self) -> T {
        postcard::from_bytes(&self.bytes).expect("what was packed can be unpacked")
    }
}

impl<T: Serialize + DeserializeOwned + Default> Default for Packed<T> {
    fn default() -> Self {
        Self::new(&T::default())
    }
}

impl<T> Clone for Packed<T> {
    fn clone(&self) -> Self {
        Self { bytes: Arc::clone(&self.bytes), value: PhantomData }
    }
}

impl<T> PartialEq for Packed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl<T> Eq for Packed<T> {}

impl<T: Serialize + DeserializeOwned + fmt::Debug> fmt::Debug for Packed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl<T: Serialize + DeserializeOwned> Serialize for Packed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.get().serialize(serializer)
    }
}

impl<'de, T: Serialize + DeserializeOwned> Deserialize<'de> for Packed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(|value| Self::new(&value))
    }
}
