/* archive.h -- private to formats/: the two kinds of checkpoint in a zip. */
#ifndef TS_FORMATS_ARCHIVE_H
#define TS_FORMATS_ARCHIVE_H

#include "catalog.h"
#include "zip.h"

/* Everything a parser needs of the archive it fills the draft from. */
typedef struct {
    ts_zip zip;
    ts_file *file;
    uint32_t index; /* of the file in the draft */
    ts_arena *arena; /* for what is needed only while parsing */
    ts_draft *draft;
} ts_archive;

/* Every member is an array file. */
ts_status ts_npz_parse(const ts_archive *archive, ts_error *error);

/* `root` is the folder that holds data.pkl. */
ts_status ts_torchzip_parse(const ts_archive *archive, ts_name root,
                            ts_error *error);

#endif
