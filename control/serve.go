package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"

	"enclave/control/admin"
	"enclave/wire/api"
	"enclave/wire/svid"
)

// Run serves TLS on the listeners, and the API on Config.APIListener, until ctx ends
// or a listener fails. It closes them, tells every agent that the server goes down,
// and returns when all it started has ended; nil after an ordinary end.
func (s *Server) Run(ctx context.Context, listeners ...net.Listener) error {
	return NewFront(s, nil).Run(ctx, listeners...)
}

// Run is Server.Run for a server whose state can be locked and unlocked meanwhile.
func (f *Front) Run(ctx context.Context, listeners ...net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Requests outlive ctx by the grace; streams are told to end at once.
	requests, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()

	var handlers tracker
	var loops sync.WaitGroup
	streams := newStreams()
	tlsServer := f.httpServer(requests, &handlers, true)
	tlsServer.Handler = streams.before(tlsServer.Handler)
	tlsServer.TLSConfig = f.tlsConfig()
	tlsServer.TLSNextProto = f.nextProto(&handlers)
	apiServer := f.httpServer(requests, &handlers, false)

	serve := func(srv *http.Server, serve func() error) {
		loops.Go(func() {
			if err := serve(); !errors.Is(err, http.ErrServerClosed) {
				cancel(err)
			}
		})
	}
	for _, l := range listeners {
		limited := newLimitListener(l, f.cfg.MaxPerAddress, f.tooMany)
		serve(tlsServer, func() error { return tlsServer.ServeTLS(limited, "", "") })
	}
	serve(tlsServer, func() error { return tlsServer.ServeTLS(streams, "", "") })
	if l := f.cfg.APIListener; l != nil {
		limited := newLimitListener(l, f.cfg.MaxPerAddress, f.tooMany)
		serve(apiServer, func() error { return apiServer.Serve(limited) })
	}
	f.begin(ctx, cancel)
	loops.Go(func() { f.locking(ctx) })

	<-ctx.Done()
	if l := f.live.Load(); l != nil {
		l.server.hub.stop()
	}
	grace, done := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer done()
	for _, srv := range []*http.Server{tlsServer, apiServer} {
		if err := srv.Shutdown(grace); err != nil {
			abort()
			_ = srv.Close() // whatever it did not end is ended by its listener's close
		}
	}
	abort()
	handlers.wait()
	loops.Wait()
	err := f.end()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		err = errors.Join(cause, err)
	}
	return err
}

// httpServer makes a server with the limits that every listener has. Reading a body
// and writing an answer get their deadlines in the handlers: streams have none.
func (f *Front) httpServer(base context.Context, running *tracker, agents bool) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !running.enter() {
				panic(http.ErrAbortHandler)
			}
			defer running.leave()
			f.serve(w, r, agents)
		}),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		Protocols:         &protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 64,
			SendPingTimeout:      pingAfter,
			PingTimeout:          pingTimeout,
			WriteByteTimeout:     writeTimeout,
		},
		BaseContext: func(net.Listener) context.Context { return base },
		ErrorLog:    slog.NewLogLogger(f.log.Handler(), slog.LevelDebug),
	}
}

func (f *Front) tlsConfig() *tls.Config {
	// Optional: enrolment and the API come without an SVID. Expired: an agent that
	// slept past its SVID's life renews with it; every other route checks the time.
	c := svid.ServerConfig(f.trust, f.certificate, svid.ClientOptionalExpired)
	c.NextProtos = []string{"h2", "http/1.1"}
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		for name, p := range f.cfg.ALPN {
			if !slices.Contains(hello.SupportedProtos, name) {
				continue
			}
			cfg := p.TLS()
			if cfg == nil {
				return nil, fmt.Errorf("%s is not ready", name)
			}
			// This protocol and no other: what verifies its clients is not what verifies
			// ours, so no request of HTTP may come through its handshake.
			cfg = cfg.Clone()
			cfg.NextProtos = []string{name}
			return cfg, nil
		}
		return nil, nil // the configuration at hand
	}
	return c
}

func (f *Front) nextProto(running *tracker) map[string]func(*http.Server, *tls.Conn, http.Handler) {
	protos := make(map[string]func(*http.Server, *tls.Conn, http.Handler))
	for name, p := range f.cfg.ALPN {
		protos[name] = func(_ *http.Server, c *tls.Conn, _ http.Handler) {
			if running.enter() {
				defer running.leave()
				p.Serve(c)
			}
		}
	}
	return protos
}

func (s *Server) handler() http.Handler {
	agent := s.agentRoutes()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/agent/") {
			agent.ServeHTTP(w, r)
			return
		}
		s.apiHandler().ServeHTTP(w, r)
	})
}

func (s *Server) apiHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, admin.Prefix+"/") {
			s.api.ServeHTTP(w, r)
			return
		}
		admin.WriteProblem(w, admin.NewProblem(http.StatusNotFound, api.CodeNotFound, "nothing lives here", "the API is at "+admin.Prefix+"/docs"))
	})
}

func (f *Front) tooMany(from string) {
	f.strangers.Warn("connection refused: too many from one address", "from", from, "max", f.cfg.MaxPerAddress)
}
