//! Simulated marketplaces as a node has to know them: their part of its config, and their listings.

use std::fmt::Write as _;

use marketplace::sender::{Item, Kind, Sender};
use marketplace::{Store, amazon, ebay, odoo, sqs};

/// Settings of a listing, as its mapping names them.
pub type Settings = Vec<(&'static str, String)>;

/// A Shopify store in a node's config, but for the table's head.
#[must_use]
pub fn store_config(store: &Store) -> String {
    let options = store.options();
    format!(
        "name = \"{}\"\nkind = \"shopify\"\nsecrets = [\"{}\"]\n\
         api = {{ base_url = \"http://{}\", token = \"{}\", version = \"{}\" }}\n",
        options.name,
        options.secret,
        store.address(),
        options.access_token,
        options.api_version,
    )
}

/// What a Shopify store calls an item, and where it lies.
#[must_use]
pub fn store_listing(store: &Store, item: &marketplace::Item) -> (String, Settings) {
    let location = format!("gid://shopify/Location/{}", store.options().location_id);
    let id = format!("gid://shopify/InventoryItem/{}", item.inventory_item_id);
    (id, vec![("location_id", location)])
}

/// A channel in a node's config, but for the table's head. `webhooks` is the node's URL, up to the channel's
/// name.
#[must_use]
pub fn sender_config(sender: &Sender, webhooks: &str) -> String {
    let options = sender.options();
    let (name, secret, url) = (&options.name, &options.secret, sender.url());
    let (id, key) = (&options.api_id, &options.api_secret);
    let common = |secret: &str| format!("name = \"{name}\"\nsecrets = [\"{secret}\"]\n");
    match options.kind {
        Kind::WooCommerce => format!(
            "{}kind = \"woocommerce\"\napi = {{ base_url = \"{url}\", consumer_key = \"{id}\", \
             consumer_secret = \"{key}\" }}\n",
            common(secret)
        ),
        Kind::Ebay => format!(
            "{}kind = \"ebay\"\nendpoint = \"{webhooks}{name}\"\napi = {{ base_url = \"{url}\", \
             client_id = \"{id}\", client_secret = \"{key}\", refresh_token = \"{}\" }}\n",
            common(&options.verification_token),
            options.refresh_token
        ),
        Kind::Walmart => format!(
            "{}kind = \"walmart\"\nverify = {{ scheme = \"basic\", user = \"wm\" }}\n\
             api = {{ base_url = \"{url}\", client_id = \"{id}\", client_secret = \"{key}\" }}\n",
            common(secret)
        ),
        Kind::Odoo => format!(
            "{}kind = \"odoo\"\nodoo = {{ locations = {{ {} = \"main\" }}, customers = [{}] }}\n\
             api = {{ base_url = \"{url}\", token = \"{key}\", location_id = \"{}\" }}\n",
            common(secret),
            odoo::STOCK,
            odoo::CUSTOMERS,
            odoo::STOCK
        ),
        Kind::Generic => format!("{}kind = \"generic\"\n", common(secret)),
    }
}

/// An Amazon account and its queue in a node's config, but for the table's head.
#[must_use]
pub fn account_config(name: &str, of: &amazon::Account, queue: &sqs::Queue) -> String {
    let (endpoint, account, of_queue) = (of.endpoint(), of.options(), queue.options());
    format!(
        "name = \"{name}\"\nkind = \"amazon\"\n\
         sqs = {{ queue_url = \"{}\", region = \"{}\", access_key_id = \"{}\", \
         secret_access_key = \"{}\", visibility = \"10s\" }}\n\
         api = {{ base_url = \"{endpoint}\", token_url = \"{endpoint}/auth/o2/token\", \
         client_id = \"{}\", client_secret = \"{}\", refresh_token = \"{}\", \
         marketplaces = [\"{}\"], seller_id = \"{}\" }}\n",
        queue.url(),
        of_queue.region,
        of_queue.credentials.access_key_id,
        of_queue.credentials.secret_access_key,
        account.client_id,
        account.client_secret,
        account.refresh_token,
        account.marketplace_id,
        account.seller_id,
    )
}

/// The URL at which a channel's webhooks are taken.
#[must_use]
pub fn sender_target(sender: &Sender, webhooks: &str) -> String {
    let mut url = format!("{webhooks}{}", sender.options().name);
    if sender.options().kind == Kind::Odoo {
        // Writing to a String cannot fail.
        let _ = write!(url, "/{}", sender.options().secret);
    }
    url
}

/// What a channel calls an item.
#[must_use]
pub fn sender_listing(sender: &Sender, item: &Item) -> (String, Settings) {
    let options = sender.options();
    match options.kind {
        Kind::WooCommerce => {
            let parent = options.parents.get(&item.listing);
            let parent = parent.map(|parent| ("parent_id", parent.to_string()));
            (item.listing.to_string(), parent.into_iter().collect())
        }
        Kind::Odoo => (item.listing.to_string(), Vec::new()),
        Kind::Ebay => {
            let offer = ebay::offer_id(item.listing).to_string();
            (item.sku.clone(), vec![("offer_id", offer)])
        }
        Kind::Walmart | Kind::Generic => (item.sku.clone(), Vec::new()),
    }
}

#[cfg(test)]
mod tests;
