package data

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// IDX magic numbers: two zero bytes, the element type (8: unsigned byte), the number of dimensions.
const (
	idxLabels = 0x00000801
	idxImages = 0x00000803
)

// loadIDX reads a set from an image file and a label file in the IDX format of MNIST, plain or gzip.
func loadIDX(f folder, info Set, images, labels string) (*Set, error) {
	s := info
	imageFile, err := f.find(idxNames(images, "idx3")...)
	if err != nil {
		return nil, err
	}
	labelFile, err := f.find(idxNames(labels, "idx1")...)
	if err != nil {
		return nil, err
	}
	dims, pixels, err := readIDXFile(f, imageFile, idxImages)
	if err != nil {
		return nil, err
	}
	s.H, s.W, s.C, s.Images = dims[1], dims[2], 1, pixels
	_, raw, err := readIDXFile(f, labelFile, idxLabels)
	if err != nil {
		return nil, err
	}
	if len(raw) != dims[0] {
		return nil, fmt.Errorf("data file %s has %d labels but %s has %d images: they must agree",
			f.path(labelFile), len(raw), f.path(imageFile), dims[0])
	}
	s.Labels = make([]int32, len(raw))
	for i, y := range raw {
		if int(y) >= s.Classes {
			return nil, fmt.Errorf("data file %s: label %d of record %d is outside 0 to %d", f.path(labelFile), y, i, s.Classes-1)
		}
		s.Labels[i] = int32(y)
	}
	return &s, nil
}

// idxNames lists the names under which an IDX file is found: as its authors name it, and with the dot
// that some unpackers leave.
func idxNames(stem, kind string) []string {
	a, b := stem+"-"+kind+"-ubyte", stem+"."+kind+"-ubyte"
	return []string{a, a + ".gz", b, b + ".gz"}
}

// readIDXFile reads one IDX file of unsigned bytes with the given magic number.
func readIDXFile(f folder, name string, magic uint32) ([]int, []byte, error) {
	src, err := f.open(name)
	if err != nil {
		return nil, nil, err
	}
	defer src.Close()
	dims, data, err := parseIDX(src, magic, src.limit, src.exact)
	if err != nil {
		return nil, nil, fmt.Errorf("data file %s %w", src.path, err)
	}
	return dims, data, nil
}

// parseIDX reads an IDX stream: its dimensions and its bytes. limit is the most bytes the stream can
// hold, exactly so if exact; a header that declares more is refused before anything is allocated.
// Errors continue a sentence that begins with the file's name.
func parseIDX(r io.Reader, magic uint32, limit int64, exact bool) ([]int, []byte, error) {
	dims := make([]int, magic&0xff)
	header := make([]byte, 4+4*len(dims))
	if n, err := io.ReadFull(r, header); err != nil {
		return nil, nil, fmt.Errorf("is truncated: %d bytes of a %d-byte IDX header: %w", n, len(header), err)
	}
	if got := binary.BigEndian.Uint32(header); got != magic {
		return nil, nil, fmt.Errorf("has magic number 0x%08x; %s", got, wantMagic(magic))
	}
	size := int64(1)
	for i := range dims {
		d := int64(binary.BigEndian.Uint32(header[4+4*i:]))
		if d == 0 || d > maxSetBytes/size {
			return nil, nil, fmt.Errorf("declares an absurd dimension %d: %d", i, d)
		}
		size *= d
		dims[i] = int(d)
	}
	declared := size + int64(len(header))
	if declared > limit || (exact && declared != limit) {
		return nil, nil, fmt.Errorf("declares %d bytes (dimensions %v) but holds %s%d", declared, dims, atMost(exact), limit)
	}
	data := make([]byte, size)
	if n, err := io.ReadFull(r, data); err != nil {
		return nil, nil, fmt.Errorf("is truncated or damaged: %d of the %d bytes that its header declares: %w", n, size, err)
	}
	if err := atEnd(r); err != nil {
		return nil, nil, fmt.Errorf("declares %d bytes, but behind them: %w", declared, err)
	}
	return dims, data, nil
}

func wantMagic(magic uint32) string {
	if magic == idxImages {
		return fmt.Sprintf("an IDX image file has 0x%08x", magic)
	}
	return fmt.Sprintf("an IDX label file has 0x%08x", magic)
}

func atMost(exact bool) string {
	if exact {
		return ""
	}
	return "at most "
}

// atEnd returns an error unless the reader has ended well. Reading to the end makes gzip check its sum.
func atEnd(r io.Reader) error {
	var b [1]byte
	switch _, err := io.ReadFull(r, b[:]); {
	case err == nil:
		return errors.New("more data follows")
	case err == io.EOF:
		return nil
	default:
		return err
	}
}
