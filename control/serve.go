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
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Requests outlive ctx by the grace; streams are told to end at once.
	requests, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()

	var handlers tracker
	var loops sync.WaitGroup
	tlsServer := s.httpServer(requests, &handlers, s.handler())
	tlsServer.TLSConfig = s.tlsConfig()
	tlsServer.TLSNextProto = s.nextProto(&handlers)
	apiServer := s.httpServer(requests, &handlers, s.apiHandler())

	serve := func(srv *http.Server, serve func() error) {
		loops.Go(func() {
			if err := serve(); !errors.Is(err, http.ErrServerClosed) {
				cancel(err)
			}
		})
	}
	for _, l := range listeners {
		limited := newLimitListener(l, s.cfg.MaxPerAddress, s.tooMany)
		serve(tlsServer, func() error { return tlsServer.ServeTLS(limited, "", "") })
	}
	if l := s.cfg.APIListener; l != nil {
		limited := newLimitListener(l, s.cfg.MaxPerAddress, s.tooMany)
		serve(apiServer, func() error { return apiServer.Serve(limited) })
	}
	loops.Go(func() { s.hub.run(ctx) })

	<-ctx.Done()
	s.hub.stop()
	grace, done := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Grace)
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
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// httpServer makes a server with the limits that every listener has. Reading a body
// and writing an answer get their deadlines in the handlers: streams have none.
func (s *Server) httpServer(base context.Context, running *tracker, h http.Handler) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !running.enter() {
				panic(http.ErrAbortHandler)
			}
			defer running.leave()
			h.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		Protocols:         &protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 64,
			SendPingTimeout:      pingAfter,
			PingTimeout:          pingTimeout,
			WriteByteTimeout:     s.cfg.WriteTimeout,
		},
		BaseContext: func(net.Listener) context.Context { return base },
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

func (s *Server) tlsConfig() *tls.Config {
	// Optional: enrolment and the API come without an SVID. Expired: an agent that
	// slept past its SVID's life renews with it; every other route checks the time.
	c := svid.ServerConfig(s.trust, s.Certificate, svid.ClientOptionalExpired)
	c.NextProtos = []string{"h2", "http/1.1"}
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		for name, p := range s.cfg.ALPN {
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

func (s *Server) nextProto(running *tracker) map[string]func(*http.Server, *tls.Conn, http.Handler) {
	protos := make(map[string]func(*http.Server, *tls.Conn, http.Handler))
	for name, p := range s.cfg.ALPN {
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

func (s *Server) tooMany(from string) {
	s.log.Warn("connection refused: too many from one address", "from", from, "max", s.cfg.MaxPerAddress)
}
