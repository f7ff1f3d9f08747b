//! Tokio runtimes in nodes. A namespace belongs to a thread, so a runtime's threads must all be moved.

use std::future::Future;

use tokio::runtime::{Builder, Runtime};

use crate::node::Node;

impl Node {
    /// A multi-threaded runtime whose own threads all live in the node, to be refined and built.
    ///
    /// The future given to `block_on` runs on the thread that calls it, which may be elsewhere: spawn what opens sockets, or
    /// use [`Node::block_on`].
    pub fn tokio(&self) -> Builder {
        let (node, mut builder) = (self.clone(), Builder::new_multi_thread());
        builder.enable_all().on_thread_start(move || {
            node.enter().unwrap_or_else(|cause| panic!("cannot enter node '{}': {cause}", node.name()));
        });
        builder
    }

    /// Runs a future to its end on a runtime of its own, every thread of which, also the one that runs the future itself,
    /// lives in the node.
    ///
    /// ```
    /// # fn main() -> Result<(), ringwire_lab::LabError> {
    /// let lab = ringwire_lab::Lab::new()?;
    /// let node = lab.node("host")?;
    /// let port = node.block_on(|| async {
    ///     let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    ///     listener.local_addr().map(|addr| addr.port())
    /// });
    /// assert!(port.is_ok());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// If the runtime cannot be built; and with what the future panics with.
    pub fn block_on<F: Future>(&self, make: impl FnOnce() -> F + Send) -> F::Output
    where
        F::Output: Send,
    {
        self.run(|| {
            let runtime: Runtime = self
                .tokio()
                .build()
                .unwrap_or_else(|cause| panic!("no runtime in node '{}': {cause}", self.name()));
            runtime.block_on(make())
        })
    }
}
