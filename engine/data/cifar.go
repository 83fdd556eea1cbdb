package data

import (
	"fmt"
	"io"
)

// CIFAR's images are 32x32 with three channels, stored as one plane per channel.
const (
	cifarSide   = 32
	cifarPixels = cifarSide * cifarSide
	cifarPlanes = 3 * cifarPixels
)

// cifarLayout describes the records of a CIFAR binary file.
type cifarLayout struct {
	name   string // for messages: CIFAR-10 or CIFAR-100
	labels int    // label bytes before the pixels
	use    int    // which of them is the label
}

// cifarFile is a file and the number of records it must have.
type cifarFile struct {
	name    string
	records int
}

var (
	cifar10        = cifarLayout{name: "CIFAR-10", labels: 1}
	cifar100Fine   = cifarLayout{name: "CIFAR-100", labels: 2, use: 1}
	cifar100Coarse = cifarLayout{name: "CIFAR-100", labels: 2, use: 0}

	cifar10Train = []cifarFile{
		{"data_batch_1.bin", 10000}, {"data_batch_2.bin", 10000}, {"data_batch_3.bin", 10000},
		{"data_batch_4.bin", 10000}, {"data_batch_5.bin", 10000},
	}
	cifar10Test   = []cifarFile{{"test_batch.bin", 10000}}
	cifar100Train = []cifarFile{{"train.bin", 50000}}
	cifar100Test  = []cifarFile{{"test.bin", 10000}}
)

func (l cifarLayout) recordBytes() int { return l.labels + cifarPlanes }

// loadCIFAR reads the named binary files, one after another, into one set.
func loadCIFAR(f folder, info Set, l cifarLayout, files []cifarFile) (*Set, error) {
	s := info
	s.H, s.W, s.C = cifarSide, cifarSide, 3
	total := 0
	for _, file := range files {
		total += file.records
		if _, err := f.find(file.name); err != nil {
			return nil, fmt.Errorf("%w (%s in its binary version is needed, not the Python one)", err, l.name)
		}
	}
	s.Images = make([]byte, 0, total*cifarPlanes)
	s.Labels = make([]int32, 0, total)
	for _, file := range files {
		if err := loadCIFARFile(f, &s, l, file); err != nil {
			return nil, err
		}
	}
	return &s, nil
}

func loadCIFARFile(f folder, s *Set, l cifarLayout, file cifarFile) error {
	src, err := f.open(file.name)
	if err != nil {
		return err
	}
	defer src.Close()
	if want := int64(file.records) * int64(l.recordBytes()); src.limit != want {
		return fmt.Errorf("data file %s has %d bytes; a %s file is %d bytes = %d records of %d",
			src.path, src.limit, l.name, want, file.records, l.recordBytes())
	}
	if err := parseCIFAR(src, s, l, file.records); err != nil {
		return fmt.Errorf("data file %s: %w", src.path, err)
	}
	return nil
}

// parseCIFAR appends a number of records to the set, turning planes into NHWC.
func parseCIFAR(r io.Reader, s *Set, l cifarLayout, records int) error {
	record := make([]byte, l.recordBytes())
	for i := range records {
		if _, err := io.ReadFull(r, record); err != nil {
			return fmt.Errorf("truncated in record %d of %d: %w", i, records, err)
		}
		y := record[l.use]
		if int(y) >= s.Classes {
			return fmt.Errorf("label %d of record %d is outside 0 to %d", y, i, s.Classes-1)
		}
		s.Labels = append(s.Labels, int32(y))
		s.Images = appendInterleaved(s.Images, record[l.labels:])
	}
	return nil
}

// appendInterleaved appends an image of three planes with its channels side by side.
func appendInterleaved(dst, planes []byte) []byte {
	r, g, b := planes[:cifarPixels], planes[cifarPixels:2*cifarPixels], planes[2*cifarPixels:]
	for i := range cifarPixels {
		dst = append(dst, r[i], g[i], b[i])
	}
	return dst
}
