//! A model on its way from one host to another: what is believed of a giver that the test plays ([`hostile`], [`resumed`]),
//! and what two hosts do with a model that one of them has fetched ([`whole`]).

mod giver;
mod hostile;
mod resumed;
mod whole;
