//! Messages about exports, built from given material.

use super::samples::Material;
use crate::request::Operation;
use crate::request::db::Export;
use crate::response::Response;
use crate::response::db::ExportInfo;

pub(super) fn operations(m: &Material) -> Vec<Operation<'static>> {
    vec![Operation::DbExport(Export { name: m.text(0) })]
}

pub(super) fn responses(m: &Material) -> Vec<(&'static str, Response<'static>)> {
    let exported = ExportInfo {
        path: m.text(0),
        checkpoint_watermark: m.numbers[0],
        watermark_txn: m.numbers[1],
        size_bytes: m.numbers[2],
        digest: m.text(1),
    };
    vec![("Exported", Response::Exported(exported))]
}
