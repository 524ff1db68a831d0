//! Deadlines of connections: a wheel of one-second spokes.
//!
//! In: a connection and a deadline. Out: the connections whose spoke has come round; the worker then looks whether the
//! deadline really has passed and puts the connection back if not. So a busy connection costs one entry per turn of
//! its time-out, not one per request; one whose deadline has come nearer gets a second entry, and the first is ignored
//! when it fires. What must stay true: an entry fires at its deadline or up to a second later, never before it unless
//! the deadline is further away than the wheel is long.

/// Spokes of the wheel; a deadline further away than this many seconds fires early and is put back.
const SPOKES: usize = 64;

/// Nanoseconds per spoke.
pub(super) const SPOKE_NS: u64 = 1_000_000_000;

/// Identifies a connection: its slot and generation.
pub(super) type Timed = (u32, u32);

/// A wheel of deadlines.
#[derive(Debug)]
pub(super) struct TimerWheel {
    spokes: Vec<Vec<Timed>>,
    /// The spoke that was fired last, counted from the clock's start.
    turned_to: u64,
    len: usize,
}

impl TimerWheel {
    pub(super) fn new(now_ns: u64) -> Self {
        Self { spokes: vec![Vec::new(); SPOKES], turned_to: now_ns / SPOKE_NS, len: 0 }
    }

    /// Notes a deadline; returns when its spoke comes round.
    pub(super) fn insert(&mut self, deadline_ns: u64, timed: Timed) -> u64 {
        let farthest = self.turned_to + SPOKES as u64 - 1;
        let spoke = deadline_ns.div_ceil(SPOKE_NS).clamp(self.turned_to + 1, farthest);
        self.spokes[spoke as usize % SPOKES].push(timed);
        self.len += 1;
        spoke * SPOKE_NS
    }

    /// When the wheel wants to be turned next; `None` while it is empty.
    pub(super) fn next_ns(&self) -> Option<u64> {
        (self.len > 0).then(|| (self.turned_to + 1) * SPOKE_NS)
    }

    /// Moves everything whose spoke has come into `due`.
    pub(super) fn turn(&mut self, now_ns: u64, due: &mut Vec<Timed>) {
        let target = now_ns / SPOKE_NS;
        if self.len == 0 || target - self.turned_to >= SPOKES as u64 {
            self.turned_to = self.turned_to.max(target.saturating_sub(SPOKES as u64));
        }
        while self.turned_to < target {
            self.turned_to += 1;
            let spoke = &mut self.spokes[self.turned_to as usize % SPOKES];
            self.len -= spoke.len();
            due.append(spoke);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = SPOKE_NS;

    #[test]
    fn nothing_fires_before_its_deadline_nor_a_second_after() {
        for deadline_ms in [0u64, 1, 999, 1000, 1001, 5500, 62_000] {
            let mut wheel = TimerWheel::new(0);
            wheel.insert(deadline_ms * 1_000_000, (7, 0));
            let mut due = Vec::new();
            let mut fired_ms = None;
            for now_ms in (0..70_000).step_by(100) {
                wheel.turn(now_ms * 1_000_000, &mut due);
                if !due.is_empty() {
                    fired_ms = Some(now_ms);
                    break;
                }
            }
            let fired_ms = fired_ms.expect("fires");
            assert!((deadline_ms..=deadline_ms + 1000).contains(&fired_ms), "{deadline_ms} fired at {fired_ms}");
        }
    }

    #[test]
    fn far_deadlines_fire_early_and_can_be_put_back() {
        let mut wheel = TimerWheel::new(0);
        wheel.insert(1000 * SECOND, (1, 0));
        let mut due = Vec::new();
        wheel.turn(SPOKES as u64 * SECOND, &mut due);
        assert_eq!(due, [(1, 0)]);
        assert_eq!(wheel.next_ns(), None);
    }

    #[test]
    fn a_long_pause_fires_everything_once() {
        let mut wheel = TimerWheel::new(0);
        for slot in 0..10 {
            wheel.insert(u64::from(slot) * SECOND, (slot, 0));
        }
        let mut due = Vec::new();
        wheel.turn(10_000 * SECOND, &mut due);
        due.sort_unstable();
        assert_eq!(due, (0..10).map(|slot| (slot, 0)).collect::<Vec<_>>());
        wheel.insert(10_001 * SECOND, (3, 1));
        due.clear();
        wheel.turn(10_001 * SECOND, &mut due);
        assert_eq!(due, [(3, 1)]);
    }
}
