package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"syscall"
	"time"

	"enclave/agent"
)

// download is an endless HTTP download that is under way.
type download struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when it has ended

	mu   sync.Mutex // guards what follows
	last time.Time  // of the last byte
	n    int64
	err  error
}

func httpClient(a *agent.Agent) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: a.DialContext, DisableKeepAlives: true}}
}

// get fetches a page over the overlay.
func get(ctx context.Context, a *agent.Agent, url string) (status int, body string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := httpClient(a).Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, string(raw), err
}

// startDownload returns once bytes flow.
func startDownload(ctx context.Context, a *agent.Agent, url string) (*download, error) {
	ctx, cancel := context.WithCancel(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		cancel()
		return nil, err
	}
	resp, err := httpClient(a).Do(req)
	if err != nil {
		cancel()
		return nil, err
	}
	d := &download{cancel: cancel, done: make(chan struct{})}
	go d.read(resp.Body)
	return d, d.flowing(ctx, 10*time.Second)
}

func (d *download) read(body io.ReadCloser) {
	defer close(d.done)
	defer body.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := body.Read(buf)
		d.mu.Lock()
		if n > 0 {
			d.last, d.n = time.Now(), d.n+int64(n)
		}
		d.err = err
		d.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (d *download) progress() (last time.Time, n int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last, d.n, d.err
}

// flowing waits until more bytes have come than at the call.
func (d *download) flowing(ctx context.Context, within time.Duration) error {
	_, before, _ := d.progress()
	return eventually(ctx, within, "the download does not flow", func() bool {
		_, n, _ := d.progress()
		return n > before+int64(len(chunk))
	})
}

// cut waits until the download has ended with a reset, and returns when its last
// byte came. A clean end would make a truncated download look complete.
func (d *download) cut(ctx context.Context, within time.Duration) (time.Time, error) {
	select {
	case <-d.done:
	case <-time.After(within):
		d.cancel()
		<-d.done
		last, _, _ := d.progress()
		return last, fmt.Errorf("not cut after %s", within)
	case <-ctx.Done():
		return time.Time{}, ctx.Err()
	}
	last, _, err := d.progress()
	if !errors.Is(err, syscall.ECONNRESET) {
		return last, fmt.Errorf("it ended with %v, want a reset", err)
	}
	return last, nil
}

func (d *download) stop() {
	d.cancel()
	<-d.done
}

// eventually polls ok. The demo runs on the wall clock over real TCP stacks, so
// there is no one event to wait for.
func eventually(ctx context.Context, within time.Duration, what string, ok func() bool) error {
	deadline := time.Now().Add(within)
	for !ok() {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s within %s", what, within)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
