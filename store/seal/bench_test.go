package seal

import "testing"

// BenchmarkSealPage and BenchmarkOpenPage are what a page costs on its way to the
// disk and back.
func BenchmarkSealPage(b *testing.B) {
	root := NewRoot()
	x, m, page := newSectors(root, database), newPageMAC(root, database), make([]byte, pageSize)
	b.SetBytes(pageSize)
	b.ReportAllocs()
	for n := int64(0); b.Loop(); n++ {
		m.seal(page, n)
		x.encrypt(page, n*8)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pages/s")
}

func BenchmarkOpenPage(b *testing.B) {
	root := NewRoot()
	x, m, page := newSectors(root, database), newPageMAC(root, database), make([]byte, pageSize)
	m.seal(page, 5)
	x.encrypt(page, 40)
	sealed := string(page)
	b.SetBytes(pageSize)
	b.ReportAllocs()
	for b.Loop() {
		copy(page, sealed)
		x.decrypt(page, 40)
		if !m.open(page, 5) {
			b.Fatal("does not open")
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pages/s")
}
