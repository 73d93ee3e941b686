package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"enclave/store/audit"
	"enclave/wire/api"
)

// errStreamEnded is a stream that its server ended in order, as one that goes down does.
var errStreamEnded = errors.New("it has ended the stream")

// Audit lists records of the audit trail, the newest limit of those that query wants, in
// their order. query may hold actor, action, object, outcome, request, since and until.
func (c *Client) Audit(ctx context.Context, query url.Values, limit int) ([]api.AuditRecord, error) {
	all := []api.AuditRecord{} // never null in JSON
	q := url.Values{"newest": {"true"}}
	for k, v := range query {
		q[k] = v
	}
	for len(all) < limit {
		q.Set("limit", strconv.Itoa(min(limit-len(all), 1000)))
		var page api.Page[api.AuditRecord]
		if err := c.call(ctx, http.MethodGet, "/audit?"+q.Encode(), nil, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.Next == "" {
			break
		}
		q.Set("before", page.Next)
	}
	for i, j := 0, len(all)-1; i < j; i, j = i+1, j-1 {
		all[i], all[j] = all[j], all[i]
	}
	return all, nil
}

// FollowAudit calls f with each record after a number as it is written, until ctx ends,
// the server ends or f fails.
func (c *Client) FollowAudit(ctx context.Context, query url.Values, after int64, f func(*api.AuditRecord) error) error {
	q := url.Values{"after": {strconv.FormatInt(after, 10)}}
	for k, v := range query {
		q[k] = v
	}
	body, err := c.open(ctx, "/audit/stream?"+q.Encode())
	if err != nil {
		return err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, audit.MaxLine)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 { // it lives
			continue
		}
		var r api.AuditRecord
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return fmt.Errorf("audit stream: %w", err)
		}
		if err := f(&r); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		return unreachable(c.base, err)
	}
	if ctx.Err() == nil {
		return unreachable(c.base, errStreamEnded)
	}
	return ctx.Err()
}

// ExportAudit opens an export of the audit trail. query may hold last, before and sealed.
func (c *Client) ExportAudit(ctx context.Context, query url.Values) (io.ReadCloser, error) {
	return c.open(ctx, "/audit/export?"+query.Encode())
}

// AuditCheckpoint returns the signed state of the trail: of a size, or of all of it when
// size is 0, with a proof that it continues old when that is not 0.
func (c *Client) AuditCheckpoint(ctx context.Context, size, old int64) (out api.AuditCheckpoint, err error) {
	return out, c.call(ctx, http.MethodGet, fmt.Sprintf("/audit/checkpoint?size=%d&old=%d", size, old), nil, nil, &out)
}

// AuditProof proves that a record is in the trail.
func (c *Client) AuditProof(ctx context.Context, seq, size int64) (out audit.Proof, err error) {
	return out, c.call(ctx, http.MethodGet, fmt.Sprintf("/audit/records/%d/proof?size=%d", seq, size), nil, nil, &out)
}

// AuditSegments lists what was archived.
func (c *Client) AuditSegments(ctx context.Context) ([]api.AuditSegment, error) {
	var out struct{ Items []api.AuditSegment }
	return out.Items, c.call(ctx, http.MethodGet, "/audit/segments", nil, nil, &out)
}

// AuditSubjects lists whom records are about and whose details can be read.
func (c *Client) AuditSubjects(ctx context.Context) ([]string, error) {
	var out struct{ Items []string }
	return out.Items, c.call(ctx, http.MethodGet, "/audit/subjects", nil, nil, &out)
}

// ArchiveAudit takes out records that the caller has in a verified file.
func (c *Client) ArchiveAudit(ctx context.Context, in api.AuditArchive) (out api.AuditSegment, err error) {
	return out, c.call(ctx, http.MethodPost, "/audit/archive", nil, in, &out)
}

// EraseAudit destroys the key of a subject's details.
func (c *Client) EraseAudit(ctx context.Context, subject string, dryRun bool, reason string) (out api.AuditErased, err error) {
	w := Wish{Reason: reason}
	path := w.query("/audit/erase")
	if dryRun {
		path = "/audit/erase?dry_run=true"
	}
	return out, c.call(ctx, http.MethodPost, path, nil, map[string]string{"subject": subject}, &out)
}

// open starts an answer that is read as it comes.
func (c *Client) open(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := c.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, unreachable(c.base, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	p := new(api.Problem)
	if json.Unmarshal(raw, p) != nil || p.Code == "" {
		return nil, fmt.Errorf("%w: %s answered %s, which is not an Enclave API", ErrUnreachable, c.base, resp.Status)
	}
	p.Status = resp.StatusCode
	return nil, p
}
