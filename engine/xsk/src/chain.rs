//! Received packets longer than a frame, put together from descriptors that may come in several batches.

use ringwire_frame::{Frame, Packet};

/// The packet whose last frame has not arrived yet.
#[derive(Debug, Default)]
pub(crate) enum Chain {
    #[default]
    None,
    Partial(Packet),
    /// A frame of the packet was refused: the rest is dropped as it comes.
    Broken,
}

/// What one more frame made of it.
#[derive(Debug)]
pub(crate) enum Assembled {
    Packet(Packet),
    /// The packet goes on in the next descriptor.
    More,
    /// The packet ended without being whole.
    Lost,
}

impl Chain {
    /// Takes the next frame, `None` if it was refused; `continues` says whether its packet goes on.
    pub(crate) fn push(&mut self, frame: Option<Frame>, continues: bool) -> Assembled {
        let packet = match (std::mem::take(self), frame) {
            (Chain::None, Some(frame)) => Some(Packet::from(frame)),
            (Chain::Partial(mut packet), Some(frame)) => {
                packet.rest.push(frame);
                Some(packet)
            }
            (Chain::Broken, _) | (_, None) => None,
        };
        match (packet, continues) {
            (Some(packet), false) => Assembled::Packet(packet),
            (Some(packet), true) => {
                *self = Chain::Partial(packet);
                Assembled::More
            }
            (None, true) => {
                *self = Chain::Broken;
                Assembled::More
            }
            (None, false) => Assembled::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use ringwire_frame::{Class, Floors, FrameState, Geometry, Pool, Region};

    use super::*;

    fn pool() -> Pool {
        let geometry = Geometry { frame_bytes: 2048, frame_count: 64 };
        let mut pool = Pool::new(
            Region::anonymous(geometry.region_bytes()),
            geometry,
            Floors::for_frames(geometry.frame_count),
        );
        pool.adopt();
        pool
    }

    fn frame(pool: &mut Pool, fill: u8) -> Frame {
        let mut frame = pool.alloc(Class::Receive).unwrap();
        frame.append(10).fill(fill);
        frame
    }

    #[test]
    fn a_single_frame_is_a_packet_at_once() {
        let mut pool = pool();
        let mut chain = Chain::default();
        let Assembled::Packet(packet) = chain.push(Some(frame(&mut pool, 1)), false) else {
            panic!("not a packet")
        };
        assert!(packet.rest.is_empty() && packet.head.bytes() == [1; 10]);
    }

    #[test]
    fn frames_of_a_chain_keep_their_order() {
        let mut pool = pool();
        let mut chain = Chain::default();
        assert!(matches!(chain.push(Some(frame(&mut pool, 1)), true), Assembled::More));
        assert!(matches!(chain.push(Some(frame(&mut pool, 2)), true), Assembled::More));
        let Assembled::Packet(packet) = chain.push(Some(frame(&mut pool, 3)), false) else {
            panic!("not a packet")
        };
        assert_eq!(packet.head.bytes()[0], 1);
        assert_eq!(packet.rest.iter().map(|frame| frame.bytes()[0]).collect::<Vec<_>>(), [2, 3]);
        // The next packet starts afresh.
        assert!(matches!(chain.push(Some(frame(&mut pool, 4)), false), Assembled::Packet(_)));
    }

    #[test]
    fn a_refused_frame_loses_its_packet_and_no_other() {
        for refused in 0..3 {
            let mut pool = pool();
            let mut chain = Chain::default();
            for position in 0..3 {
                let frame = (position != refused).then(|| frame(&mut pool, 1));
                let last = position == 2;
                let expected_lost = matches!(chain.push(frame, !last), Assembled::Lost);
                assert_eq!(expected_lost, last, "frame {refused} refused, at {position}");
            }
            assert!(matches!(chain.push(Some(frame(&mut pool, 9)), false), Assembled::Packet(_)));
            assert_eq!(pool.counts().of(FrameState::Free), 64, "frames of the lost packet came back");
        }
    }
}
