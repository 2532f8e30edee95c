//! Registered templates: a manifest, and the file that holds its bytes.

use jiff::Timestamp;
use nemordp_types::{Template, TemplateDigest, TemplateName};

use crate::Store;
use crate::codec::json;
use crate::error::{Result, StoreError};
use crate::idempotency::{Idempotency, Once, once};
use crate::page::{Page, Paged};
use crate::sql::{Query, Row, values};
use crate::transaction::Sql as _;

const MISSING: StoreError = StoreError::NotFound { noun: "template" };

/// A template that orders can name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredTemplate {
    /// Its manifest.
    pub template: Template,
    /// Name of its file in the template folder.
    pub file_name: String,
    /// When it was registered.
    pub registered_at: Timestamp,
}

fn template(row: &Row) -> Result<RegisteredTemplate> {
    Ok(RegisteredTemplate {
        template: row.json("manifest")?,
        file_name: row.get("file_name")?,
        registered_at: row.get("registered_at")?,
    })
}

impl Store {
    /// Registers a template; the same name and digest again changes nothing. A new digest under a name is what orders
    /// get from now on.
    pub async fn template_register(
        &self,
        manifest: &Template,
        file_name: &str,
        intention: Option<&Idempotency<'_, RegisteredTemplate>>,
    ) -> Result<Once<RegisteredTemplate>> {
        transaction!(self, |tx| once!(tx, intention, {
            let now = tx.now;
            let sql = "INSERT INTO template (digest, name, manifest, file_name, registered_at) \
                       VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
            let values = values![manifest.digest, &manifest.name, json(manifest)?, file_name, now];
            tx.execute(Query::new("template", sql, values)).await?;
            let sql = "SELECT manifest, file_name, registered_at FROM template WHERE name = $1 AND digest = $2";
            let row = tx.fetch_optional(Query::new("template", sql, values![&manifest.name, manifest.digest])).await?;
            template(&row.ok_or(MISSING)?)?
        }))
    }

    /// The newest template of a name.
    pub async fn template_fetch(&self, name: &TemplateName) -> Result<RegisteredTemplate> {
        let sql = "SELECT manifest, file_name, registered_at FROM template WHERE name = $1 \
                   ORDER BY registered_at DESC, digest LIMIT 1";
        let row = self.reader().fetch_optional(Query::new("template", sql, values![name])).await?;
        template(&row.ok_or(MISSING)?)
    }

    /// A template by its bytes.
    pub async fn template_fetch_by_digest(&self, digest: &TemplateDigest) -> Result<RegisteredTemplate> {
        let sql = "SELECT manifest, file_name, registered_at FROM template WHERE digest = $1 \
                   ORDER BY registered_at DESC, name LIMIT 1";
        let row = self.reader().fetch_optional(Query::new("template", sql, values![*digest])).await?;
        template(&row.ok_or(MISSING)?)
    }

    /// The newest template of each name.
    pub async fn template_list(&self, page: Page<TemplateName>) -> Result<Paged<RegisteredTemplate, TemplateName>> {
        let sql = "SELECT manifest, file_name, registered_at FROM template t \
                   WHERE ($1 IS NULL OR name > $1) AND NOT EXISTS (SELECT 1 FROM template n WHERE n.name = t.name AND \
                   (n.registered_at > t.registered_at OR (n.registered_at = t.registered_at AND n.digest < t.digest))) \
                   ORDER BY name LIMIT $2";
        let rows = self.reader().fetch(Query::new("template", sql, values![page.after.as_ref(), page.fetch()])).await?;
        let items = rows.iter().map(template).collect::<Result<_>>()?;
        Ok(page.cut(items, |t: &RegisteredTemplate| t.template.name.clone()))
    }
}
