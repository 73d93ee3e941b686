package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"enclave/wire/api"
)

// Seal tells how the state is sealed.
func (c *Client) Seal(ctx context.Context) (out api.Seal, err error) {
	return out, c.call(ctx, http.MethodGet, "/seal", nil, nil, &out)
}

// SealDo begins to rotate or to lock.
func (c *Client) SealDo(ctx context.Context, verb string) (out api.Seal, err error) {
	return out, c.call(ctx, http.MethodPost, "/seal/"+verb, nil, nil, &out)
}

// SealAdd lets a recipient open the state.
func (c *Client) SealAdd(ctx context.Context, in api.SealAdd) (out api.Seal, err error) {
	return out, c.call(ctx, http.MethodPost, "/seal/recipients", nil, in, &out)
}

// SealRemove takes one out.
func (c *Client) SealRemove(ctx context.Context, in api.SealRemove) (out api.Seal, err error) {
	return out, c.call(ctx, http.MethodPost, "/seal/recipients/remove", nil, in, &out)
}

// Unlock opens a locked state.
func (c *Client) Unlock(ctx context.Context, in api.Unlock) (out api.Seal, err error) {
	return out, c.call(ctx, http.MethodPost, "/seal/unlock", nil, in, &out)
}

// Health tells how the state is; full checks all of it, which takes as long as it takes.
func (c *Client) Health(ctx context.Context, full bool) (out api.Health, err error) {
	path := "/health"
	if full {
		path += "?full=true"
	}
	return out, c.call(ctx, http.MethodGet, path, nil, nil, &out)
}

// backupHeader is the header with the head of a backup.
const backupHeader = "Enclave-Backup"

// Backup has the server make a backup and calls f with its head, as JSON, and its bytes.
// Only a stream that f read to its end, without an error, is whole.
func (c *Client) Backup(ctx context.Context, order api.BackupOrder, f func(head []byte, r io.Reader) error) error {
	in, err := json.Marshal(order)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/backup", bytes.NewReader(in))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return unreachable(c.base, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		p := new(api.Problem)
		if json.Unmarshal(raw, p) != nil || p.Code == "" {
			return errors.Join(err, fmt.Errorf("%w: %s answered %s, which is not an Enclave API", ErrUnreachable, c.base, resp.Status))
		}
		p.Status = resp.StatusCode
		return p
	}
	return f([]byte(resp.Header.Get(backupHeader)), resp.Body)
}

// Date is the server's clock as it puts it into every answer.
func (c *Client) Date(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/version", nil)
	if err != nil {
		return "", err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return "", unreachable(c.base, err)
	}
	return resp.Header.Get("Date"), resp.Body.Close()
}
