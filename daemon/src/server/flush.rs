//! The end of a turn: what each touched connection sends, and whether it may go on receiving.

use super::Server;

impl Server {
    /// Gives every touched connection its one send, and starts or pauses its receive.
    pub(super) fn flush(&mut self) {
        let touched = self.core.take_touched();
        for slot in touched.iter().copied() {
            self.core.push_durable(slot);
            let Some(session) = self.core.session_mut(slot) else {
                continue;
            };
            session.say_farewell();
            if !self.ring.is_sending(slot)
                && let Some(bytes) = session.outbound.take_ready()
            {
                self.ring.send(slot, bytes);
            }
            if session.is_finished() {
                self.core.disconnect(slot);
                self.ring.close(slot);
            } else if self.core.wants_bytes(slot) {
                self.ring.receive(slot);
            } else {
                self.ring.pause(slot);
            }
        }
        self.core.recycle_touched(touched);
    }
}
