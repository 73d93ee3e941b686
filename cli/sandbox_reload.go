package cli

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"enclave/sandbox/session"
	"enclave/sandbox/tools"
)

// certificate is a pair of files that a server shows, as they were read last.
type certificate struct {
	cert, key string
	now       atomic.Pointer[tls.Certificate]
}

func (c *certificate) read() error {
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err == nil {
		c.now.Store(&pair)
	}
	return err
}

func (c *certificate) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.now.Load(), nil }}
}

// reloader gives a server that runs what its files say now: at a SIGHUP, and every so
// often when they have changed. Files that are wrong change nothing but the log.
type reloader struct {
	hup    <-chan os.Signal
	tools  string // file; may be empty
	open   func(context.Context) (*tools.Registry, error)
	server *session.Server
	cert   *certificate  // may be nil
	every  time.Duration // 0: at SIGHUP only
	log    *slog.Logger
}

// Run works until ctx ends.
func (r *reloader) Run(ctx context.Context) {
	var tick <-chan time.Time
	if r.every > 0 {
		t := time.NewTicker(r.every)
		defer t.Stop()
		tick = t.C
	}
	seen := r.sum()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.hup:
		case <-tick:
			if r.sum() == seen {
				continue
			}
		}
		seen = r.sum()
		r.reload(ctx)
	}
}

func (r *reloader) reload(ctx context.Context) {
	if r.cert != nil {
		err := readable(r.cert.cert, r.cert.key)
		if err == nil {
			err = r.cert.read()
		}
		if err != nil {
			r.log.Error("certificate not read again: the old one stays", "error", err)
		}
	}
	if r.tools == "" {
		return
	}
	var reg *tools.Registry
	text, err := textOf(r.tools)
	if err == nil {
		err = readable(r.named(text)...)
	}
	if err == nil {
		reg, err = r.open(ctx)
	}
	if err != nil {
		r.log.Error("tools not read again: the old ones stay", "file", r.tools, "error", err, "mistakes", mistakesIn(err))
		return
	}
	if err := r.server.Replace(reg); err != nil {
		r.log.Error("close the tools that were replaced", "error", err)
	}
	r.log.Info("tools read again", "file", r.tools, "version", reg.Version())
}

// readable tells why one of the files cannot be read now. A pipe in the place of one would
// have everything here wait for who writes into it.
func readable(names ...string) error {
	for _, name := range names {
		f, _, err := session.OpenRegular(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		f.Close()
	}
	return nil
}

// textOf is the text of a file, cut behind what one of tools may have.
func textOf(name string) ([]byte, error) {
	f, _, err := session.OpenRegular(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, tools.MaxFile+1))
}

// named are the files that one of tools names: secrets and documents.
func (r *reloader) named(text []byte) []string {
	f, err := tools.Load(text)
	if err != nil {
		return nil
	}
	names := f.Files()
	for i, name := range names {
		if !filepath.IsAbs(name) {
			names[i] = filepath.Join(filepath.Dir(r.tools), name)
		}
	}
	return names
}

// maxMistakes is how many a log tells of; "sandbox tools" shows all.
const maxMistakes = 10

// mistakesIn tells what is wrong with a file, each with its place.
func mistakesIn(err error) []string {
	f, ok := errors.AsType[*failure](err)
	if !ok {
		return nil
	}
	var out []string
	for _, p := range f.Problems[:min(len(f.Problems), maxMistakes)] {
		out = append(out, p.Error())
	}
	return out
}

// sum tells whether a file has changed.
func (r *reloader) sum() (out [sha256.Size]byte) {
	h := sha256.New()
	add := func(name string) []byte {
		b, err := textOf(name)
		io.WriteString(h, errors.Join(err, errors.New(name)).Error()) //nolint:errcheck // a hash takes everything
		h.Write(b)                                                    //nolint:errcheck // as above
		return b
	}
	if r.cert != nil {
		add(r.cert.cert)
		add(r.cert.key)
	}
	if r.tools != "" {
		for _, name := range r.named(add(r.tools)) {
			add(name)
		}
	}
	return [sha256.Size]byte(h.Sum(nil))
}
