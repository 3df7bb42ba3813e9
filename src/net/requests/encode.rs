//! Rows into the body of a request: what other sinks have encoded is shared, pieces are not put together, and
//! compression happens on a thread where it may take its time.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::payload::Payload;
use crate::batch::Batch;
use crate::codec::compression::{Compression, Compressor};
use crate::codec::encode::{self, Format, RowEncoder};

/// How rows are put together in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Each is followed by a newline.
    Lines,
    /// A JSON array of all.
    JsonArray,
}

/// Makes bodies of rows.
#[derive(Debug)]
pub struct BodyEncoder {
    format: Format,
    key: Arc<str>,
    pipeline: Arc<str>,
    layout: Layout,
    compression: Option<Compression>,
    /// Compressors that are not at work, at most as many as there were requests at a time.
    compressors: Arc<Mutex<Vec<Compressor>>>,
}

impl BodyEncoder {
    /// Bodies of rows in `format` that flow through `pipeline`.
    pub fn new(
        format: Format,
        layout: Layout,
        compression: Option<Compression>,
        pipeline: Arc<str>,
    ) -> BodyEncoder {
        let key = format.key();
        BodyEncoder { format, key, pipeline, layout, compression, compressors: Arc::default() }
    }

    /// The media type of the bodies.
    pub fn content_type(&self) -> &'static str {
        match (self.layout, &self.format) {
            (Layout::JsonArray, _) => "application/json",
            (Layout::Lines, Format::Json(_)) => "application/x-ndjson",
            (Layout::Lines, Format::Raw | Format::Text(..)) => "text/plain; charset=utf-8",
        }
    }

    /// The content coding of the bodies.
    pub fn content_encoding(&self) -> Option<&'static str> {
        self.compression.map(Compression::token)
    }

    /// What a row takes on top of its own bytes, about.
    pub fn row_overhead(&self) -> u64 {
        self.format.row_overhead()
    }

    /// The rows of `batches` one after the other, in pieces, not compressed.
    pub fn parts<'a>(&self, batches: impl Iterator<Item = &'a Batch>) -> Vec<Bytes> {
        match self.layout {
            Layout::Lines => {
                batches.map(|batch| encode::lines(batch, &self.format, &self.key, &self.pipeline)).collect()
            }
            Layout::JsonArray => {
                let mut parts = Vec::new();
                for batch in batches {
                    parts.push(Bytes::from(self.elements(batch, parts.is_empty())));
                }
                parts.push(Bytes::from_static(b"]"));
                parts
            }
        }
    }

    /// The rows of one batch as elements of an array that begins with the first batch.
    fn elements(&self, batch: &Batch, is_first: bool) -> Vec<u8> {
        let encoder = RowEncoder::new(batch, &self.format, &self.pipeline);
        let mut out = Vec::with_capacity((batch.bytes() + batch.events() * self.row_overhead()) as usize);
        let mut delimiter = if is_first { b'[' } else { b',' };
        for row in batch.live().iter() {
            out.push(delimiter);
            encoder.write(row, &mut out);
            delimiter = b',';
        }
        out
    }

    /// A body of `parts`, compressed if that is wanted.
    ///
    /// # Errors
    /// When memory is short or the compressor cannot take that much.
    pub async fn payload(&self, parts: Vec<Bytes>) -> io::Result<Payload> {
        let Some(coding) = self.compression else { return Ok(Payload::new(parts)) };
        let compressors = self.compressors.clone();
        let compressed = tokio::task::spawn_blocking(move || {
            let waiting = compressors.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut compressor = waiting.map_or_else(|| Compressor::new(coding, None), Ok)?;
            let mut out = Vec::new();
            match parts.as_slice() {
                [one] => compressor.compress(one, &mut out)?,
                many => compressor.compress(&many.concat(), &mut out)?,
            }
            out.shrink_to_fit();
            compressors.lock().unwrap_or_else(PoisonError::into_inner).push(compressor);
            Ok::<_, io::Error>(Bytes::from(out))
        });
        Ok(Payload::new([compressed.await.map_err(io::Error::other)??]))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::codec::template::TimestampFormat;

    async fn body(encoder: &BodyEncoder, batches: &[Batch]) -> Bytes {
        let payload = encoder.payload(encoder.parts(batches.iter())).await.unwrap();
        let bytes = payload.body().0.collect().await.unwrap().to_bytes();
        assert_eq!(bytes.len() as u64, payload.bytes());
        bytes
    }

    #[tokio::test]
    async fn lines_and_arrays_hold_every_row() {
        let batches = [Batch::from_lines("t", ["a", "b \"q\""]), Batch::from_lines("t", ["c"])];
        let encoder = |format, layout, coding| BodyEncoder::new(format, layout, coding, "p".into());
        let json = || Format::Json(TimestampFormat::Rfc3339);
        let raw = encoder(Format::Raw, Layout::Lines, None);
        assert_eq!(
            (body(&raw, &batches).await, raw.content_type()),
            ("a\nb \"q\"\nc\n".into(), "text/plain; charset=utf-8")
        );
        let array = encoder(json(), Layout::JsonArray, None);
        let rows: Vec<serde_json::Value> = serde_json::from_slice(&body(&array, &batches).await).unwrap();
        let messages: Vec<_> = rows.iter().map(|row| row["message"].as_str().unwrap()).collect();
        assert_eq!((messages, array.content_type()), (vec!["a", "b \"q\"", "c"], "application/json"));
        for coding in Compression::ALL {
            let lines = encoder(json(), Layout::Lines, Some(coding));
            for _ in 0..2 {
                let plain = coding.decompress(&body(&lines, &batches).await, 10_000).unwrap();
                assert_eq!(plain.iter().filter(|b| **b == b'\n').count(), 3);
            }
            assert_eq!(
                (lines.content_type(), lines.content_encoding()),
                ("application/x-ndjson", Some(coding.token()))
            );
            assert_eq!(lines.compressors.lock().unwrap().len(), 1, "one is used again");
        }
    }
}
