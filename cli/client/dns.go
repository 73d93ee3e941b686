package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

// Zones lists DNS zones, by name.
func (c *Client) Zones(ctx context.Context) ([]api.Zone, error) {
	return list[api.Zone](ctx, c, "/dns/zones", nil)
}

// CreateZone makes a DNS zone.
func (c *Client) CreateZone(ctx context.Context, z wire.Zone) (out api.Zone, err error) {
	return out, c.call(ctx, http.MethodPost, "/dns/zones", nil, z, &out)
}

// UpdateZone replaces a DNS zone that is at version; 0 is any.
func (c *Client) UpdateZone(ctx context.Context, z wire.Zone, version wire.Revision) (out api.Zone, err error) {
	return out, c.call(ctx, http.MethodPut, zonePath(z.Name), ifMatch(version), z, &out)
}

// DeleteZone removes a DNS zone that has no records.
func (c *Client) DeleteZone(ctx context.Context, name string) (api.Changed, error) {
	return c.change(ctx, http.MethodDelete, zonePath(name), nil)
}

// zonePath is where a zone is; no path can hold the root's name.
func zonePath(name string) string {
	if name == "." {
		name = "@"
	}
	return "/dns/zones" + seg(name)
}

// Records lists DNS records, by name.
func (c *Client) Records(ctx context.Context) ([]api.Record, error) {
	return list[api.Record](ctx, c, "/dns/records", nil)
}

// CreateRecord makes a DNS record.
func (c *Client) CreateRecord(ctx context.Context, r wire.Record) (out api.Record, err error) {
	return out, c.call(ctx, http.MethodPost, "/dns/records", nil, r, &out)
}

// UpdateRecord replaces a DNS record that is at version; 0 is any.
func (c *Client) UpdateRecord(ctx context.Context, r wire.Record, version wire.Revision) (out api.Record, err error) {
	return out, c.call(ctx, http.MethodPut, "/dns/records"+seg(r.Name), ifMatch(version), r, &out)
}

// DeleteRecord removes a DNS record.
func (c *Client) DeleteRecord(ctx context.Context, name string) (api.Changed, error) {
	return c.change(ctx, http.MethodDelete, "/dns/records"+seg(name), nil)
}

// Resolve tells what a name stands for, for one system; a zero instant is now.
func (c *Client) Resolve(ctx context.Context, name, as string, at time.Time) (out api.Resolution, err error) {
	q := url.Values{"name": {name}, "as": {as}}
	setAt(q, at)
	return out, c.call(ctx, http.MethodGet, "/dns/resolve?"+q.Encode(), nil, nil, &out)
}

func ifMatch(version wire.Revision) http.Header {
	if version == 0 {
		return nil
	}
	return http.Header{"If-Match": {`"` + strconv.FormatUint(uint64(version), 10) + `"`}}
}
