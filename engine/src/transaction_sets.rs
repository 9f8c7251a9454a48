//! The sets of a transaction: what is recorded by an operation, how the commit reads them, and how
//! a listing shows the transaction's own writes.

use std::cmp::Ordering;

use in_mem_model::TypeTag;
use in_mem_model::ValueRef;
use in_mem_model::keys::{is_system_key, validate_prefix, validate_user_key};
use in_mem_model::limits::{TRANSACTION_LEN_BYTES_MAX, TRANSACTION_MUTATION_COUNT_MAX};

use crate::errors::{CommitError, ReadError};
use crate::expiry::Lifetime;
use crate::kv::Page;
use crate::limits::{LIST_STEP_LEN_BYTES_MAX, READ_SET_COUNT_MAX, READ_SET_LEN_BYTES_MAX};
use crate::prepare::StepSource;
use crate::program::{Expected, ReadCheck, Seen, Step};
use crate::retention::POLICY_ENTITY;
use crate::run::Run;
use crate::savepoints::Undo;
use crate::transaction::{TransactionContext, TransactionStatus, Write};
use crate::transaction_memory::{node_cost, read_cost, write_cost};
use crate::version_node::{Node, VersionNode};
use crate::view::{ListItem, ListRequest, ListStep, ReadView, Versioned};

impl TransactionContext {
    pub(crate) fn check_active(&self) -> Result<(), CommitError> {
        if self.status != TransactionStatus::Active {
            return Err(CommitError::TransactionNotActive);
        }
        let run = self.run.as_ref().ok_or(CommitError::TransactionNotActive)?;
        if self.options.timeout_ms == 0 {
            return Ok(());
        }
        // The time of day stands still without commits and may step: it ends nothing.
        let now_us = run.inner.shared.clock.monotonic_us();
        let age_us = now_us.saturating_sub(self.begun_at_us);
        if self.options.timeout_ms.saturating_mul(1000) < age_us {
            return Err(CommitError::Timeout);
        }
        Ok(())
    }

    pub(crate) fn check_writable(&self) -> Result<(), CommitError> {
        self.check_active()?;
        if self.options.read_only {
            return Err(CommitError::ReadOnly);
        }
        if TRANSACTION_MUTATION_COUNT_MAX <= self.write_set.len()
            || TRANSACTION_LEN_BYTES_MAX < self.written_len_bytes
        {
            return Err(CommitError::TransactionTooLarge {
                mutation_count: self.write_set.len(),
                len_bytes: self.written_len_bytes,
            });
        }
        Ok(())
    }

    pub(crate) fn begin_read(&mut self, key: &[u8]) -> Result<(), ReadError> {
        self.check_active()
            .map_err(|_| ReadError::TransactionNotActive)?;
        validate_user_key(key)?;
        self.operation_count += 1;
        Ok(())
    }

    pub(crate) fn begin_write(&mut self, key: &[u8]) -> Result<(), CommitError> {
        self.check_writable()?;
        validate_user_key(key)?;
        self.operation_count += 1;
        Ok(())
    }

    pub(crate) fn run(&self) -> Result<&Run, ReadError> {
        self.run.as_ref().ok_or(ReadError::TransactionNotActive)
    }

    pub(crate) fn write_run(&self) -> Result<&Run, CommitError> {
        self.run.as_ref().ok_or(CommitError::TransactionNotActive)
    }

    pub(crate) fn view(&self) -> Result<ReadView, ReadError> {
        let pin = self.pin.clone().ok_or(ReadError::TransactionNotActive)?;
        Ok(ReadView::of_pin(
            pin,
            self.start_version,
            self.started_at_us,
        ))
    }

    /// Notes what the commit is to validate. A transaction that may not write validates nothing.
    pub(crate) fn record_read(&mut self, key: &[u8], version: u64) -> Result<(), ReadError> {
        if self.options.read_only || self.read_set.get(key).is_some() {
            return Ok(());
        }
        let len_bytes = self.read_set.key_len_bytes() + key.len();
        if READ_SET_COUNT_MAX <= self.read_set.len() || READ_SET_LEN_BYTES_MAX < len_bytes {
            return Err(ReadError::TransactionTooLarge {
                read_count: self.read_set.len(),
                len_bytes,
            });
        }
        self.read_set.insert(key, version);
        self.hold(read_cost(key));
        Ok(())
    }

    /// The version of a key whose value the transaction has just read, a tombstone's too; 0 for
    /// what it is about to write itself.
    pub(crate) fn seen_version(&self, key: &[u8], found: Option<&Versioned>) -> u64 {
        if self.write_set.get(key).is_some() {
            return 0;
        }
        let recorded = self.read_set.get(key).copied();
        recorded.unwrap_or_else(|| found.map_or(0, |found| found.version))
    }

    /// Keeps a value aside.
    pub(crate) fn write_value(
        &mut self,
        key: &[u8],
        value: ValueRef<'_>,
        expected: Option<Expected>,
        lifetime: Option<Lifetime>,
    ) -> Result<(), CommitError> {
        self.begin_write(key)?;
        let len_bytes = key.len() + value.as_bytes().len();
        self.check_growth(len_bytes)?;
        let shard = &self.write_run()?.shard;
        let node = match lifetime {
            Some(Lifetime::Until(at_us)) => Node::with_expiry(value.as_bytes(), at_us),
            // Until when is known at the commit.
            Some(Lifetime::For(_)) => Node::with_expiry(value.as_bytes(), u64::MAX),
            None => shard.node_with_value(value.as_bytes()),
        };
        self.written_len_bytes += len_bytes;
        self.record_expiring(key, Some(node), expected, lifetime);
        Ok(())
    }

    /// No node deletes. Whatever a later write does, every expectation of an earlier one stays.
    pub(crate) fn record_write(
        &mut self,
        key: &[u8],
        node: Option<Node>,
        expected: Option<Expected>,
    ) {
        self.record_expiring(key, node, expected, None);
    }

    fn record_expiring(
        &mut self,
        key: &[u8],
        node: Option<Node>,
        expected: Option<Expected>,
        lifetime: Option<Lifetime>,
    ) {
        let is_delete = node.is_none();
        let mut new = Write {
            node,
            is_delete,
            expected: [expected, None],
            lifetime,
        };
        self.hold(node_cost(&new));
        let Some((index, write)) = self.write_set.entry_mut(key) else {
            self.write_set.insert(key, new);
            self.hold(write_cost(key));
            self.journal(Undo::Remove);
            return;
        };
        new.expected = write.expected;
        new.expect(expected);
        let before = std::mem::replace(write, new);
        self.let_go(node_cost(&before));
        self.journal(Undo::Restore(index, before));
    }

    /// One bounded step of a listing in key order, own writes included.
    ///
    /// # Errors
    /// When the prefix is not allowed, the limit is 0 or the transaction is over.
    pub fn list_step(&mut self, request: &ListRequest<'_>) -> Result<ListStep, ReadError> {
        self.check_active()
            .map_err(|_| ReadError::TransactionNotActive)?;
        validate_prefix(request.prefix)?;
        self.operation_count += 1;
        let mut step = self.view()?.list_step(TypeTag::Kv, request)?;
        if step.after.is_none() && !step.is_complete {
            return Ok(step);
        }
        self.write_set.sort();
        self.merge_own(request, &mut step);
        Ok(step)
    }

    /// Shows the transaction's own writes among the keys of one step. Looks at no more of them than
    /// the step takes, and copies only what it shows.
    fn merge_own(&self, request: &ListRequest<'_>, step: &mut ListStep) {
        let bound = step.after.clone().filter(|_| !step.is_complete);
        let is_in_step = |key: &[u8]| {
            key.starts_with(request.prefix) && bound.as_deref().is_none_or(|bound| key <= bound)
        };
        let first = request.start.max(request.prefix);
        let first = request.after.map_or(first, |after| first.max(after));
        let own = self.write_set.entries_from(first);
        let own = own.skip_while(|(key, _)| request.after == Some(*key));
        let mut own = own.take_while(|(key, _)| is_in_step(key)).peekable();
        let mut published = std::mem::take(&mut step.items).into_iter().peekable();
        let mut len_bytes = 0;
        loop {
            let next = match (own.peek(), published.peek()) {
                (None, None) => return,
                (Some((key, _)), Some(item)) => (*key).cmp(&item.key),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
            };
            let own_len = own.peek().and_then(|(_, write)| write.node.as_ref());
            let own_len = own_len.map_or(0, |node| node.value().len());
            let published_len = published.peek().and_then(|item| item.value.as_ref());
            len_bytes += match next {
                Ordering::Greater => published_len.map_or(0, Vec::len),
                _ if request.with_values => own_len,
                _ => 0,
            };
            let is_over = LIST_STEP_LEN_BYTES_MAX < len_bytes && !step.items.is_empty();
            if step.items.len() == request.limit || is_over {
                break;
            }
            if next == Ordering::Greater {
                step.items.extend(published.next());
                continue;
            }
            if next == Ordering::Equal {
                published.next();
            }
            let Some((key, write)) = own.next() else {
                break;
            };
            let Some(node) = write.node.as_ref().filter(|_| !write.is_delete) else {
                continue;
            };
            if is_system_key(key) {
                continue;
            }
            step.items.push(ListItem {
                key: key.to_vec(),
                value: request.with_values.then(|| node.value().to_vec()),
                version: 0,
                timestamp_us: 0,
            });
        }
        step.is_complete = false;
        step.after = step.items.last().map(|item| item.key.clone());
    }

    /// One page of live keys, own writes included.
    ///
    /// # Errors
    /// As [`Self::list_step`].
    pub fn scan(&mut self, request: &ListRequest<'_>) -> Result<Page, ReadError> {
        if request.limit == 0 {
            return Err(ReadError::InvalidArgument {
                what: "a limit of 0",
            });
        }
        let cursor = request.after.map(<[u8]>::to_vec);
        let mut page = Page {
            items: Vec::new(),
            cursor,
            has_more: true,
        };
        while page.has_more && page.items.len() < request.limit {
            let limit = request.limit - page.items.len();
            let after = page.cursor.as_deref();
            let step = self.list_step(&ListRequest {
                after,
                limit,
                ..*request
            })?;
            page.items.extend(step.items);
            page.has_more = !step.is_complete;
            page.cursor = step.after.or(page.cursor);
        }
        Ok(page)
    }

    /// Live keys that begin with `prefix`, own writes included, sorted.
    ///
    /// # Errors
    /// As [`Self::list_step`].
    pub fn list(&mut self, prefix: &[u8], with_values: bool) -> Result<Vec<ListItem>, ReadError> {
        let limit = usize::MAX;
        let request = ListRequest {
            prefix,
            after: None,
            start: &[],
            limit,
            with_values,
        };
        Ok(self.scan(&request)?.items)
    }

    /// Live keys that begin with `prefix`, own writes included, count.
    ///
    /// # Errors
    /// As [`Self::list_step`].
    pub fn count(&mut self, prefix: &[u8]) -> Result<usize, ReadError> {
        Ok(self.list(prefix, false)?.len())
    }
}

impl Write {
    /// Adds an expectation. Two different versions never hold both: any third adds nothing.
    fn expect(&mut self, expected: Option<Expected>) {
        match (self.expected, expected) {
            (_, None) | ([Some(Expected::Version(_)), Some(Expected::Version(_))], _) => {}
            ([None, _], _) => self.expected = [expected, None],
            ([first, second], _) if first == expected || second == expected => {}
            ([first, None], _) => self.expected = [first, expected],
            // One of the two is `Absent`, and this is another version than the other one.
            ([first, second], _) => {
                let version = first.filter(|first| *first != Expected::Absent).or(second);
                self.expected = [version, expected];
            }
        }
    }
}

impl StepSource for TransactionContext {
    fn step_count(&self) -> usize {
        self.write_set.len() + usize::from(self.run_change.is_some())
    }

    fn step(&self, index: usize) -> Step<'_> {
        let Some((key, write)) = self.write_set.at(index) else {
            let change = self.run_change.as_ref();
            return Step::Run(change.expect("the step behind the writes changes the run"));
        };
        let governs = key == POLICY_ENTITY.user_key;
        if write.is_delete {
            return if governs {
                Step::ClearRetention
            } else {
                Step::Delete { key }
            };
        }
        // A version that the commit has taken already brings its value along.
        let bytes = write.node.as_ref().map_or(&[][..], VersionNode::value);
        let value = ValueRef::from_checked(bytes);
        if governs {
            return Step::SetRetention(value);
        }
        match write.lifetime {
            Some(lifetime) => Step::PutExpiring {
                key,
                value,
                lifetime,
            },
            None => Step::Put { key, value },
        }
    }

    fn expected(&self, index: usize) -> [Option<Expected>; 2] {
        self.write_set
            .at(index)
            .map_or([None; 2], |(_, write)| write.expected)
    }

    fn check_count(&self) -> usize {
        self.read_set.len()
    }

    fn check(&self, index: usize) -> ReadCheck<'_> {
        let (key, version) = self
            .read_set
            .at(index)
            .expect("a check index is below the count");
        ReadCheck {
            key,
            seen: Seen::Version(*version),
        }
    }

    fn is_transaction(&self) -> bool {
        true
    }

    fn has_distinct_keys(&self) -> bool {
        true
    }

    fn held_len_bytes(&self) -> u64 {
        self.held_len_bytes
    }

    fn take_node(&mut self, index: usize) -> Option<Node> {
        self.write_set
            .value_at_mut(index)
            .and_then(|write| write.node.take())
    }

    fn restore_node(&mut self, index: usize, node: Node) {
        if let Some(write) = self.write_set.value_at_mut(index)
            && !write.is_delete
        {
            write.node = Some(node);
        }
    }
}
