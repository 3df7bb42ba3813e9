//! Recycled read buffers. A chunk becomes an arena's text without a copy and comes back to its pool when the last
//! batch over it is gone, so a steady flow asks the kernel for no new pages.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// A bounded set of equally sized buffers, shared by the readers of one source.
#[derive(Debug, Clone)]
pub struct ChunkPool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    free: Mutex<Vec<Vec<u8>>>,
    chunk_bytes: usize,
    free_max: usize,
}

impl ChunkPool {
    /// Buffers of `chunk_bytes`; at most `free_max` are kept while nobody uses them.
    pub fn new(chunk_bytes: usize, free_max: usize) -> ChunkPool {
        let free = Mutex::new(Vec::with_capacity(free_max));
        ChunkPool { shared: Arc::new(Shared { free, chunk_bytes, free_max }) }
    }

    /// Size of a buffer in bytes.
    pub fn chunk_bytes(&self) -> usize {
        self.shared.chunk_bytes
    }

    /// A buffer: recycled (with stale contents) or new. Its length is [`ChunkPool::chunk_bytes`].
    pub fn take(&self) -> Chunk {
        let recycled = self.shared.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let buffer = recycled.unwrap_or_else(|| vec![0; self.shared.chunk_bytes]);
        Chunk { buffer, pool: self.shared.clone() }
    }

    /// Gives all unused buffers back to the allocator; call it when a source goes quiet.
    pub fn shrink(&self) {
        self.shared.free.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A buffer on loan. Grows if a caller needs more room; grown buffers are not recycled.
#[derive(Debug)]
pub struct Chunk {
    buffer: Vec<u8>,
    pool: Arc<Shared>,
}

impl Chunk {
    /// The whole buffer, to read into.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    /// The whole buffer.
    pub fn as_slice(&self) -> &[u8] {
        &self.buffer
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether the buffer has no room at all.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Makes the buffer at least `len` bytes long, keeping its contents.
    pub fn grow(&mut self, len: usize) {
        if len > self.buffer.len() {
            self.buffer.resize(len, 0);
        }
    }

    /// The first `len` bytes as shared, immutable text.
    pub fn freeze(self, len: usize) -> Bytes {
        Bytes::from_owner(Frozen(self)).slice(..len)
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        if buffer.len() == self.pool.chunk_bytes {
            let mut free = self.pool.free.lock().unwrap_or_else(PoisonError::into_inner);
            if free.len() < self.pool.free_max {
                free.push(buffer);
            }
        }
    }
}

struct Frozen(Chunk);

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_chunk_comes_back_when_the_last_view_is_gone() {
        let pool = ChunkPool::new(1024, 1);
        let mut chunk = pool.take();
        chunk.as_mut_slice()[..5].copy_from_slice(b"hello");
        let first = chunk.as_slice().as_ptr();
        let text = chunk.freeze(5);
        let view = text.slice(1..3);
        drop(text);
        assert_ne!(pool.take().as_slice().as_ptr(), first, "still in use");
        assert_eq!(&view[..], b"el");
        drop(view);
        // One free place: the chunk taken above came back first; the pool holds one buffer, not two.
        assert_eq!(pool.shared.free.lock().unwrap().len(), 1);
    }
}
