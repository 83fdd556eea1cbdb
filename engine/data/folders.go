package data

import (
	"bufio"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// The layouts of image folders:
//
//	ImageNet:     train/CLASS/*.JPEG   val/CLASS/*.JPEG
//	TinyImageNet: train/CLASS/images/*.JPEG   val/images/*.JPEG with val/val_annotations.txt
//	your own:     CLASS/*.jpg, or train/CLASS/*.jpg
//
// Classes are numbered in the order of their names, images come in the order of theirs. Files that are no JPEG or PNG
// files by their names, and hidden ones, are passed over.

// annotations is the file of TinyImageNet that says what the images of val show.
const annotations = "val/val_annotations.txt"

// loadFolders loads a folder with a folder for each class.
func loadFolders(f folder, base Set, spec Spec) (*Pair, error) {
	root := "."
	if f.isDir("train") {
		root = "train"
	}
	classes, err := f.classes(root)
	if err != nil {
		return nil, err
	}
	if len(classes) < 2 {
		return nil, fmt.Errorf("data folder %s has %d folders; it needs one for each class, two or more", f.path(root), len(classes))
	}
	base.Classes, base.ClassNames = len(classes), classes
	train, err := f.images(root, classes)
	if err != nil {
		return nil, err
	}
	for label, name := range classes {
		if _, ok := slices.BinarySearch(train.labels, int32(label)); !ok {
			return nil, fmt.Errorf("class folder %s has no .jpg, .jpeg or .png files", f.path(path.Join(root, name)))
		}
	}
	test, err := f.testImages(root, classes)
	if err != nil {
		return nil, err
	}
	return filesPair(f, base, spec, train, test)
}

func (f folder) isDir(name string) bool {
	info, err := fs.Stat(f.fs, name)
	return err == nil && info.IsDir()
}

// classes are the folders in a folder, or links to folders.
func (f folder) classes(dir string) (names []string, err error) {
	entries, err := fs.ReadDir(f.fs, dir)
	if err != nil {
		return nil, fmt.Errorf("data folder %s: %w", f.path(dir), reason(err))
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && (e.IsDir() || e.Type()&fs.ModeSymlink != 0 && f.isDir(path.Join(dir, e.Name()))) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// images are those of each class, in its folder and the folders in it.
func (f folder) images(dir string, classes []string) (out labelled, err error) {
	for label, class := range classes {
		at := path.Join(dir, class)
		if !f.isDir(at) { // a class without images to test on
			continue
		}
		err := fs.WalkDir(f.fs, at, func(name string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() && isImage(name) {
				out.add(entry{name: name}, int32(label))
			}
			return err
		})
		if err != nil {
			return out, fmt.Errorf("data folder %s: %w", f.path(at), reason(err))
		}
	}
	return out, nil
}

// isImage reports whether a file is one of images by its name.
func isImage(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".jpg", ".jpeg", ".png":
		return !strings.HasPrefix(path.Base(name), ".")
	}
	return false
}

// testImages are those of the folder val, or what else it is called; none without it.
func (f folder) testImages(trainRoot string, classes []string) (out labelled, err error) {
	if trainRoot == "." { // val would be a class
		return out, nil
	}
	if _, err := fs.Stat(f.fs, annotations); err == nil {
		return f.annotated(classes)
	}
	for _, name := range []string{"val", "validation", "valid", "test"} {
		if !f.isDir(name) {
			continue
		}
		found, err := f.classes(name)
		if err != nil {
			return out, err
		}
		for _, class := range found {
			if !slices.Contains(classes, class) {
				return out, fmt.Errorf("class folder %s has no counterpart %s to train on", f.path(path.Join(name, class)), f.path(path.Join(trainRoot, class)))
			}
		}
		return f.images(name, classes)
	}
	return out, nil
}

// annotated are the images that TinyImageNet's annotations name: lines of a file, a tab, a class, and more.
func (f folder) annotated(classes []string) (out labelled, err error) {
	file, err := f.open(annotations)
	if err != nil {
		return out, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		fields := strings.Split(lines.Text(), "\t")
		if len(fields) < 2 || !isImage(fields[0]) || strings.ContainsAny(fields[0], `/\`) {
			return out, fmt.Errorf("data file %s: line %d is not a file, a tab and a class: %.60q", f.path(annotations), n, lines.Text())
		}
		label, ok := slices.BinarySearch(classes, fields[1])
		if !ok {
			return out, fmt.Errorf("data file %s: line %d has class %.60q, which is not to train on", f.path(annotations), n, fields[1])
		}
		out.add(entry{name: path.Join("val/images", fields[0])}, int32(label))
	}
	if err := lines.Err(); err != nil {
		return out, fmt.Errorf("data file %s: %w", f.path(annotations), err)
	}
	return out, nil
}
