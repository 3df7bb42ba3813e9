//! The `query` filter: only events that a query finds pass. It is also what a sink's `when` is made of.

use crate::base::clock;
use crate::batch::Batch;
use crate::config::options;
use crate::flow::{BuildCx, Component, Emit, Filter, QueryOption};
use crate::query::{Matcher, Query};

options! {
    /// Options of the `query` filter.
    pub struct QueryOptions {
        /// Which events pass, such as `level:>=warn service:api "connection reset" NOT path:/health*`. See
        /// `docs/QUERY.md`.
        pub query: QueryOption,
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct QueryFilter {
    matcher: Matcher,
}

impl QueryFilter {
    /// A filter that lets pass what `query` finds.
    pub fn new(query: &Query) -> QueryFilter {
        QueryFilter { matcher: query.matcher() }
    }
}

impl Component for QueryFilter {
    const NAME: &'static str = "query";
    const SUMMARY: &'static str = "lets events pass that a query finds";
    const EXAMPLE: &'static str =
        "type = \"query\"\nquery = 'level:>=warn service:api \"connection reset\" NOT path:/health*'\n";
    type Options = QueryOptions;

    fn build(options: QueryOptions, _: &mut BuildCx<'_>) -> Option<QueryFilter> {
        Some(QueryFilter::new(&options.query.0))
    }
}

impl Filter for QueryFilter {
    fn apply(&mut self, mut batch: Batch, emit: &mut Emit) {
        self.matcher.keep(&mut batch, clock::timestamp());
        emit.push(batch);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::ComponentKind;
    use crate::testing;

    #[test]
    fn what_the_query_finds_passes() {
        let options = json!({ "query": "level:>=warn -disk" });
        let mut filter = testing::build::<QueryFilter>(ComponentKind::Filter, options).unwrap();
        let mut emit = Emit::default();
        filter.apply(Batch::from_lines("t", ["ERROR net", "WARN disk", "INFO net", "FATAL x"]), &mut emit);
        assert_eq!(emit.take()[0].live().iter().collect::<Vec<_>>(), [0, 3]);
    }

    #[test]
    fn a_bad_query_is_refused() {
        let build = |options| testing::build::<QueryFilter>(ComponentKind::Filter, options).unwrap_err();
        assert_eq!(build(json!({ "query": "a AND" })), ["invalid query: nothing follows `AND`"]);
        assert_eq!(build(json!({ "query": "" })), ["invalid query: the query is empty"]);
        assert!(build(json!({}))[0].contains("missing option `query`"));
    }
}
