package node

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

// maxScrapers is how many connections there may be for metrics, so that whoever reaches
// that port takes none from the rest of the process.
const maxScrapers = 16

// serveMetrics answers GET /metrics on l until ctx ends.
func serveMetrics(ctx context.Context, l net.Listener, c prometheus.Collector) error {
	reg := prometheus.NewRegistry()
	// The process's own tell when descriptors or memory run out.
	own := collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})
	if err := errors.Join(reg.Register(c), reg.Register(own)); err != nil {
		return err
	}
	l = netutil.LimitListener(l, maxScrapers)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 5 * time.Second}))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
