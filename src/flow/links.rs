//! placeholder
/// links
#[derive(Debug, Default)]
pub struct Links;
impl Links {
    /// x
    pub fn expect(&self, _name: &str, _n: usize) {}
}
