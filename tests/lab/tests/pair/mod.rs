//! Two nodes and a link between them.

use ringwire_lab::{Lab, Link, LinkBuilder, Node};

pub(crate) struct Pair {
    #[allow(dead_code, reason = "held so that it lives; only some tests end it themselves")]
    pub(crate) lab: Lab,
    pub(crate) a: Node,
    pub(crate) b: Node,
    pub(crate) link: Link,
}

impl Pair {
    pub(crate) fn new() -> Pair {
        Pair::shaped(|link| link)
    }

    /// Both kinds of cable, for tests that must hold on either.
    #[allow(dead_code, reason = "not every test has both")]
    pub(crate) fn both() -> [Pair; 2] {
        [Pair::new(), Pair::shaped(|link| link.direct())]
    }

    pub(crate) fn shaped(shape: impl FnOnce(LinkBuilder<'_>) -> LinkBuilder<'_>) -> Pair {
        let lab = Lab::new().unwrap();
        let (a, b) = (lab.node("a").unwrap(), lab.node("b").unwrap());
        let link = shape(lab.link(&a, &b)).up().unwrap();
        Pair { lab, a, b, link }
    }
}
