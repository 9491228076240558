//! What a device leaves to the processor, with the processor's own symbols in the device's place.

use super::*;

/// Makes a frame from the packed symbols of another of the same tensor.
fn written(writer: &FrameWriter<'_>, packed: &[u8], shape: &[usize], package: Option<&CutPackage>) -> Vec<u8> {
    let reader = FrameReader::new(packed, shape, package).unwrap();
    let geometry = reader.geometry();
    assert_eq!(geometry, writer.geometry());
    let read = reader.chunks(4).unwrap();
    let chunks: Vec<DeviceChunk<'_>> = read
        .iter()
        .enumerate()
        .map(|(index, chunk)| {
            let Symbols::Packed(symbols) = &chunk.symbols else { panic!("not packed") };
            let sequences: Vec<_> = symbols.sequences().collect();
            let mut magnitudes = Vec::new();
            let (sums, signed) = sums(&sequences, &geometry, index);
            magnitudes.extend(sums);
            let sequences = sequences.iter().map(|(sequence, _, _)| *sequence).collect();
            let step = reader.plane(chunk, 0, 0).0;
            DeviceChunk { step, signed, magnitudes, exceptions: chunk.exceptions.clone(), sequences }
        })
        .collect();
    writer.write(&chunks).unwrap()
}

/// Sums of magnitudes by band, and whether the first sequence has negatives.
fn sums(sequences: &[(Sequence<'_>, bool, &[[u32; 2]])], geometry: &Geometry, chunk: usize) -> (Vec<u64>, bool) {
    let channels = geometry.channels_of(chunk);
    let mut sums = Vec::new();
    for ((sequence, signed, _), count) in sequences.iter().zip(geometry.sequences(channels)) {
        let bytes = [sequence.widths, sequence.bitmaps, sequence.values].concat();
        let mut symbols = vec![0; count];
        pack::unpack(&bytes, *signed, &mut symbols).unwrap();
        let bands = if sums.is_empty() { &geometry.bands[..1] } else { &geometry.bands[1..] };
        let mut at = 0;
        for [lines, columns] in bands {
            let band = &symbols[at..at + lines * columns * channels];
            sums.push(band.iter().map(|s| u64::from(s.unsigned_abs())).sum());
            at += band.len();
        }
    }
    (sums, sequences[0].1)
}

#[test]
fn a_frame_of_packed_symbols_is_the_processors_own() {
    for shape in SHAPES {
        let mut values = spots(11, shape);
        values[0] = f32::NAN;
        let count = values.len();
        values[count / 2] = -1e9;
        let given = tensor(&shape, &values);
        let planar = nhwc(&given);
        for (order, settings) in
            [Order::Nchw, Order::Nhwc].into_iter().flat_map(|o| every_setting().map(move |s| (o, s)))
        {
            let settings = Settings { order, ..settings };
            let memory = if order == Order::Nhwc { &planar } else { &given };
            let packed = encode(&Settings { entropy: Entropy::Pack, ..settings }, memory).unwrap();
            let writer = FrameWriter::new(&settings, &shape).unwrap().unwrap();
            assert!(
                written(&writer, &packed, &shape, None) == encode(&settings, memory).unwrap(),
                "{shape:?} {settings:?}"
            );
        }
    }
}

#[test]
fn a_calibrated_frame_of_packed_symbols_is_the_processors_own() {
    let shape = [2, 6, 21, 22];
    let package = calibrated(shape, &Weights::default());
    let given = maps_of(1, shape);
    for settings in every_setting() {
        let settings = Settings { package: Some(&package), q: 16, ..settings };
        let packed = encode(&Settings { entropy: Entropy::Pack, ..settings }, &given).unwrap();
        let writer = FrameWriter::new(&settings, &shape).unwrap().unwrap();
        let wanted = encode(&settings, &given).unwrap();
        assert_eq!(written(&writer, &packed, &shape, Some(&package)), wanted);
        assert_eq!(writer.reference(&given, &[]).unwrap(), wanted);
        let Steps::OfPlanes { steps, limits } = writer.steps() else { panic!("steps are the package's") };
        assert_eq!((steps.len(), limits.len()), (6 * writer.geometry().bands.len(), 6));
    }
}

#[test]
fn a_reference_keeps_the_steps_that_it_is_given() {
    let shape = [2, 3, 5, 6];
    let given = maps_of(1, shape);
    for settings in every_setting() {
        let writer = FrameWriter::new(&settings, &shape).unwrap().unwrap();
        let Steps::OfRows { factor, .. } = writer.steps() else { panic!("steps are in the frame") };
        let rows = given.data().as_chunks::<4>().0.chunks(90);
        let steps: Vec<f32> = rows.map(|row| factor * quant::root_mean_square(row)).collect();
        assert_eq!(writer.reference(&given, &steps).unwrap(), encode(&settings, &given).unwrap());
        let frame = writer.reference(&given, &[0.5, 0.25]).unwrap();
        let reader = FrameReader::new(&frame, &shape, None).unwrap();
        let seen: Vec<f32> = reader.chunks(1).unwrap().iter().map(|chunk| reader.plane(chunk, 0, 0).0).collect();
        assert_eq!(seen, [0.5, 0.25]);
    }
}

#[test]
fn what_a_device_cannot_do_is_left_to_the_processor() {
    let settings = Settings::new(Mode::Haar1, 3);
    assert!(FrameWriter::new(&settings, &[0, 4, 3, 3]).unwrap().is_none());
    assert!(FrameWriter::new(&Settings { bound: Some(0.1), ..settings }, &[1, 4, 3, 3]).unwrap().is_none());
    assert!(FrameWriter::new(&Settings { q: 40, ..settings }, &[1, 4, 3, 3]).is_err());
    let writer = FrameWriter::new(&settings, &[1, 4, 3, 3]).unwrap().unwrap();
    assert!(writer.write(&[]).unwrap_err().to_string().contains("chunks: 1 expected, got 0"));
    let chunk = DeviceChunk { step: 1.0, signed: true, magnitudes: vec![], exceptions: vec![], sequences: vec![] };
    assert!(writer.write(std::slice::from_ref(&chunk)).is_err(), "no magnitudes");
    let chunk = DeviceChunk { magnitudes: vec![0; 4], ..chunk };
    assert!(writer.write(&[chunk]).unwrap_err().to_string().contains("no room for widths"));
}

/// A device refuses what the processor refuses, by the same words.
#[test]
fn readers_refuse_what_decoding_refuses() {
    let shape = [1, 4, 30, 30];
    let mut dice = Dice(5);
    for settings in every_setting() {
        let frame = encode(&settings, &maps_of(1, shape)).unwrap();
        let mut refused = 0;
        for _ in 0..300 {
            let mut bytes = frame.clone();
            // Behind the header, where chunks are.
            let at = 44 + (dice.roll() * (bytes.len() - 48) as f32) as usize;
            bytes[at] = (dice.roll() * 256.0) as u8;
            hostile::seal(&mut bytes);
            let read = FrameReader::new(&bytes, &shape, None).and_then(|reader| reader.chunks(1).map(drop));
            let decoded = decode(&bytes, &shape, Order::Nchw, None).map(drop);
            assert_eq!(read, decoded, "byte {at}, {settings:?}");
            refused += usize::from(read.is_err());
        }
        assert!(refused > 3, "{settings:?}: {refused}");
    }
}
