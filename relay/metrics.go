package relay

import "github.com/prometheus/client_golang/prometheus"

// Collector returns the relay's metrics for a Prometheus registry. No label names a
// client or an address: a metrics page must not tell who talks to whom.
func (s *Server) Collector() prometheus.Collector {
	c := &collector{s: s, counts: map[string]*prometheus.Desc{}}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("enclave_relay_"+name, help, labels, nil)
	}
	c.clients = desc("clients", "Systems connected to this relay.")
	c.handshakes = desc("handshakes", "Connections that have not proved who they are.")
	c.pairs = desc("open_tickets", "Pair tickets that connected systems hold open.")
	for _, m := range []struct {
		name, help string
		labels     []string
	}{
		{"forwarded_frames", "Frames queued for their receiver.", nil},
		{"forwarded_bytes", "Payload bytes queued for their receiver.", nil},
		{"throttled_frames", "Frames that waited for their sender's rate limit.", nil},
		{"web_connections", "Connections that came inside a WebSocket.", nil},
		{"dropped_frames", "Frames not delivered.", []string{"reason"}},
		{"tickets", "Pair tickets presented.", []string{"result"}},
		{"refused_connections", "Connections that did not become a client.", []string{"reason"}},
		{"ended_connections", "Clients that ended.", []string{"reason"}},
		{"stun_pauses", "Times that reading STUN paused, for more came than are looked at.", nil},
		{"stun_datagrams", "Datagrams on the STUN sockets.", []string{"result"}},
	} {
		c.counts[m.name] = desc(m.name+"_total", m.help, m.labels...)
	}
	return c
}

type collector struct {
	s                          *Server
	clients, handshakes, pairs *prometheus.Desc
	counts                     map[string]*prometheus.Desc // by metric in events
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.clients
	ch <- c.handshakes
	ch <- c.pairs
	for _, d := range c.counts {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	clients, pairs := c.s.roster.size()
	gauge := func(d *prometheus.Desc, n int) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n))
	}
	gauge(c.clients, clients)
	gauge(c.handshakes, c.s.door.handshakes())
	gauge(c.pairs, pairs)
	for e := event(1); e < numEvents; e++ {
		var labels []string
		if events[e].label != "" {
			labels = []string{events[e].label}
		}
		n := float64(c.s.counts[e].Load())
		ch <- prometheus.MustNewConstMetric(c.counts[events[e].metric], prometheus.CounterValue, n, labels...)
	}
}
