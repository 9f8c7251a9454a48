//! The end of a turn: what each touched connection sends, and whether it may go on receiving.

use super::Server;
use crate::reactor::Reactor;

impl<R: Reactor> Server<R> {
    /// Gives every touched connection its one send, and starts or pauses its receive.
    pub(super) fn flush(&mut self) {
        let touched = self.core.take_touched();
        for slot in touched.iter().copied() {
            self.core.push_durable(slot);
            let Some(session) = self.core.session_mut(slot) else {
                continue;
            };
            session.say_farewell();
            if !self.reactor.is_sending(slot)
                && let Some(bytes) = session.outbound.take_ready()
            {
                self.reactor.send(slot, bytes);
            }
            if session.is_finished() {
                self.core.disconnect(slot);
                self.reactor.close(slot);
            } else if self.core.wants_bytes(slot) {
                self.reactor.receive(slot);
            } else {
                self.reactor.pause(slot);
            }
        }
        self.core.recycle_touched(touched);
    }
}
