//! What has to be known of an expression: whether every row gets the same value.

/// An expression, such as a default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression {
    /// Whether every row gets the same value.
    pub volatility: Volatility,
}

/// Whether an expression has one value for all rows of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Volatility {
    /// One value: constants, `now()`.
    Constant,
    /// Maybe another value for each row: `random()`, `gen_random_uuid()`, `nextval(…)`.
    Volatile {
        /// The function that makes it so.
        function: String,
    },
    /// It calls a function of which nothing is known.
    Unknown {
        /// That function.
        function: String,
    },
}
