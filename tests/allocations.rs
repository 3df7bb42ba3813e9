//! What a row must not cost: passing rows through, including and excluding them allocates per batch, never per
//! row. Counted, not timed: the numbers are the same on every machine.
#![expect(unsafe_code, reason = "a counting allocator implements an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use logweir::batch::Batch;
use logweir::filters::query::QueryFilter;
use logweir::flow::{Emit, Filter};
use logweir::query::Query;
use logweir::query::lookup::Field;
use logweir::query::patterns::{Logic, Patterns};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // The counter may be gone while a thread ends; nobody measures then.
    ALLOCATIONS.try_with(|n| n.set(n.get() + 1)).ok();
}

// SAFETY: every call goes to the system allocator unchanged; counting touches a thread-local cell that has no
// destructor and never allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` came from `alloc` or `realloc`, which are the system's.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as for `dealloc`.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let before = ALLOCATIONS.with(Cell::get);
    let result = work();
    (ALLOCATIONS.with(Cell::get) - before, result)
}

fn lines(rows: usize) -> Batch {
    Batch::from_lines(
        "t",
        (0..rows).map(|i| format!("{} request {i} user={i}", ["INFO", "ERROR"][i % 5 / 4])),
    )
}

/// The cost of `work` for a batch of a few rows and for one of thousands, once everything is warm.
fn small_and_large(mut work: impl FnMut(Batch) -> u64) -> (u64, u64) {
    work(lines(10_000));
    let (small, large) = (lines(10), lines(10_000));
    let (few, _) = allocations(|| work(small));
    let (many, matched) = allocations(|| work(large));
    assert!(matched > 0, "the work must have something to do");
    (few, many)
}

#[test]
fn the_counter_counts() {
    let (n, _) = allocations(|| std::hint::black_box(vec![1u8; 100]));
    assert_eq!(n, 1);
}

#[test]
fn matching_allocates_per_batch() {
    for (patterns, logic, field) in [
        (&["ERROR"][..], Logic::Or, "message"),
        (&["ERROR|WARN", "9$"], Logic::And, "message"),
        (&[r"\d+ user", r"^INFO\s"], Logic::Or, "message"),
        (&["7"], Logic::Or, "user"),
    ] {
        let mut matcher = Patterns::new(patterns, logic, Field::parse(field)).unwrap();
        let (few, many) = small_and_large(|mut batch| {
            let mask = matcher.matches(&batch);
            batch.narrow(mask);
            batch.events()
        });
        assert!(few <= 12 && many <= few + 2, "{patterns:?}: {few} for 10 rows, {many} for 10,000");
    }
}

#[test]
fn queries_allocate_per_batch() {
    let now = "2026-11-21T12:00:00Z".parse().unwrap();
    for text in [
        "error",
        "\"error request\" -7",
        "re?ues* OR info",
        "/\\d+ user/ 9*",
        "user:>=5000",
        "(user:7 OR user:/9$/) level:>=info",
        "timestamp:>2000-01-01 NOT user:*9",
    ] {
        let mut matcher = Query::parse(text).unwrap().matcher();
        let (few, many) = small_and_large(|mut batch| {
            matcher.keep(&mut batch, now);
            batch.events()
        });
        // The levels and the times of a batch are a column each.
        assert!(few <= 12 && many <= few + 2, "{text}: {few} for 10 rows, {many} for 10,000");
    }
    // The whole filter, as a chain runs it.
    let mut filter = QueryFilter::new(&Query::parse("error").unwrap());
    let (few, many) = small_and_large(|batch| {
        let mut emit = Emit::default();
        filter.apply(batch, &mut emit);
        emit.take().iter().map(Batch::events).sum()
    });
    assert!(few <= 4 && many == few, "{few} for 10 rows, {many} for 10,000");
}

#[test]
fn cloning_splitting_and_writing_allocate_per_batch() {
    let mut out = Vec::with_capacity(1 << 20);
    let (few, many) = small_and_large(|mut batch| {
        let clone = batch.clone();
        let head = batch.split_to(batch.events() / 2);
        out.clear();
        let format = logweir::codec::encode::Format::Raw;
        let pipeline = "p".into();
        for part in [&clone, &head, &batch] {
            logweir::codec::encode::encode_lines(part, &format, &pipeline, &mut out);
        }
        clone.events()
    });
    assert!(few <= 8 && many == few, "{few} for 10 rows, {many} for 10,000");
}
