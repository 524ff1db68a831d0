//! Full segments in the order in which they became full, by queue.
//!
//! In: segments that become full, and those that are to be emptied. Out: the oldest. What must stay true: a segment is
//! in one list at most, that of its queue and of whether its items expire; each step takes the same time, however many
//! segments there are.

use super::log::{Queue, Segment};

const NONE: u32 = u32::MAX;

/// A segment's neighbours in its list.
#[derive(Clone, Copy, Debug)]
struct Link {
    older: u32,
    newer: u32,
    /// Rises with every segment that becomes full.
    order: u64,
}

#[derive(Clone, Copy, Debug)]
struct List {
    oldest: u32,
    newest: u32,
    len: usize,
}

impl List {
    const EMPTY: Self = Self { oldest: NONE, newest: NONE, len: 0 };
}

/// The lists.
#[derive(Debug)]
pub(super) struct Queues {
    /// By queue, and whether the items expire.
    lists: [[List; 2]; 2],
    /// By segment.
    links: Vec<Link>,
    order: u64,
}

impl Queues {
    pub(super) fn new() -> Self {
        Self { lists: [[List::EMPTY; 2]; 2], links: Vec::new(), order: 0 }
    }

    /// Takes all segments out.
    pub(super) fn clear(&mut self) {
        self.lists = [[List::EMPTY; 2]; 2];
    }

    /// Segments of a queue.
    pub(super) fn len(&self, queue: Queue) -> usize {
        self.lists[queue as usize].iter().map(|list| list.len).sum()
    }

    /// The segment of a queue that became full first; of those whose items expire if only these are wanted.
    pub(super) fn oldest(&self, queue: Queue, is_volatile: bool) -> Option<u32> {
        let lists = &self.lists[queue as usize][usize::from(is_volatile)..];
        let oldest = lists.iter().map(|list| list.oldest).filter(|segment| *segment != NONE);
        oldest.min_by_key(|segment| self.links[*segment as usize].order)
    }

    /// A segment became full.
    pub(super) fn push(&mut self, number: u32, segment: &Segment) {
        let list = &mut self.lists[segment.queue as usize][usize::from(segment.is_volatile())];
        let link = Link { older: list.newest, newer: NONE, order: self.order };
        self.order += 1;
        if self.links.len() <= number as usize {
            self.links.resize(number as usize + 1, link);
        }
        self.links[number as usize] = link;
        match link.older {
            NONE => list.oldest = number,
            older => self.links[older as usize].newer = number,
        }
        list.newest = number;
        list.len += 1;
    }

    /// Takes out a full segment, which is in the list of its kind.
    pub(super) fn remove(&mut self, number: u32, segment: &Segment) {
        let list = &mut self.lists[segment.queue as usize][usize::from(segment.is_volatile())];
        let Link { older, newer, .. } = self.links[number as usize];
        match older {
            NONE => list.oldest = newer,
            older => self.links[older as usize].newer = newer,
        }
        match newer {
            NONE => list.newest = older,
            newer => self.links[newer as usize].older = older,
        }
        list.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Random;
    use super::*;

    #[test]
    fn segments_leave_in_their_order_or_any() {
        const SEGMENTS: usize = 40;
        let mut random = Random(5);
        let mut queues = Queues::new();
        let mut segments = vec![Segment::FREE; SEGMENTS];
        let mut full: Vec<u32> = Vec::new();
        for _ in 0..if cfg!(miri) { 500 } else { 20_000 } {
            let number = random.below(SEGMENTS as u64) as u32;
            match full.iter().position(|other| *other == number) {
                None => {
                    let segment = &mut segments[number as usize];
                    segment.queue = if random.below(2) == 0 { Queue::Small } else { Queue::Main };
                    segment.class = random.below(3) as u8;
                    queues.push(number, segment);
                    full.push(number);
                }
                Some(at) => {
                    queues.remove(number, &segments[number as usize]);
                    full.remove(at);
                }
            }
            for queue in [Queue::Small, Queue::Main] {
                let of_queue = || full.iter().copied().filter(|number| segments[*number as usize].queue == queue);
                assert_eq!(queues.len(queue), of_queue().count());
                assert_eq!(queues.oldest(queue, false), of_queue().next());
                let volatile = of_queue().find(|number| segments[*number as usize].is_volatile());
                assert_eq!(queues.oldest(queue, true), volatile);
            }
        }
        queues.clear();
        assert_eq!((queues.len(Queue::Main), queues.oldest(Queue::Small, false)), (0, None));
    }
}
