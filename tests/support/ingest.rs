//! A weir that takes events over HTTP and writes them down.

use super::weir::{Place, Weir};

/// A pipeline `app` with an `http` source that has these further options (TOML) and a file as its sink.
pub fn started(place: &Place, source: &str) -> Weir {
    place.started(&format!(
        "[[pipelines]]\nname = \"app\"\nsinks = [{{ type = \"file\", path = \"DIR/out.log\" }}]\n\
         [[pipelines.sources]]\ntype = \"http\"\n{source}\n"
    ))
}

/// What it has written so far.
pub fn out(place: &Place) -> String {
    String::from_utf8_lossy(&place.read("out.log")).into_owned()
}
