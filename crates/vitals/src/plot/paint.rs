//! The two kinds of picture, and the few things that are drawn in them.

use std::sync::Once;

use plotters::{
    backend::{BitMapBackend, SVGBackend},
    prelude::DrawingBackend,
    style::{
        FontFamily, FontStyle, RGBAColor, RGBColor, ShapeStyle, TextStyle, register_font,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{Look, PlotError, Recording, SIZE_MAX, SIZE_MIN, draw::draw};

/// What is written in PNG with; in SVG it gives the widths of words, which are drawn with what the reader has.
const FONT: &[u8] = include_bytes!("../../fonts/Roboto-Regular.ttf");
const FAMILY: &str = "Roboto, Helvetica Neue, Arial, sans-serif";

/// The library draws at whole coordinates: so many of them make a pixel of SVG, so that lines are smooth.
const SVG_SCALE: u32 = 8;
/// So many points on a side are averaged for a pixel of PNG.
const PNG_SCALE: u32 = 2;
/// Above it a pixel is drawn as one point, or it would take too much memory.
const PNG_PIXELS_FINE_MAX: u32 = 4 << 20;

/// Draws as SVG, in which words are words.
///
/// # Errors
/// When there is nothing to draw, or the size is beyond its bounds.
pub fn svg(recording: &Recording, look: &Look<'_>) -> Result<String, PlotError> {
    prepare(recording, look)?;
    let (width, height) = look.size;
    let mut drawn = String::new();
    let mut backend = SVGBackend::with_string(&mut drawn, (width * SVG_SCALE, height * SVG_SCALE));
    draw(&mut Canvas { backend: &mut backend, scale: SVG_SCALE.into() }, recording, look)?;
    backend.present().map_err(|error| PlotError::Draw(error.to_string()))?;
    drop(backend);
    // Its own first tag would have the size of the drawing in pixels.
    let body = drawn.split_once('>').map_or("", |(_, body)| body);
    let (inner_width, inner_height) = (width * SVG_SCALE, height * SVG_SCALE);
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {inner_width} {inner_height}\" role=\"img\" stroke-linejoin=\"round\">\n\
         <title>CPU and memory over time</title>{body}"
    ))
}

/// Draws as PNG, 8 bits a colour.
///
/// # Errors
/// When there is nothing to draw, or the size is beyond its bounds.
pub fn png(recording: &Recording, look: &Look<'_>) -> Result<Vec<u8>, PlotError> {
    prepare(recording, look)?;
    let (width, height) = look.size;
    let scale = if width * height > PNG_PIXELS_FINE_MAX { 1 } else { PNG_SCALE };
    let (inner_width, inner_height) = (width * scale, height * scale);
    let mut points = vec![0; inner_width as usize * inner_height as usize * 3];
    let mut backend = BitMapBackend::with_buffer(&mut points, (inner_width, inner_height));
    draw(&mut Canvas { backend: &mut backend, scale: scale.into() }, recording, look)?;
    backend.present().map_err(|error| PlotError::Draw(error.to_string()))?;
    drop(backend);
    let pixels = averaged(&points, look.size, scale as usize);
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(out)
}

fn prepare(recording: &Recording, look: &Look<'_>) -> Result<(), PlotError> {
    static REGISTERED: Once = Once::new();
    // A font that is in the program is either sound or is found out by every test.
    REGISTERED.call_once(|| assert!(register_font(FAMILY, FontStyle::Normal, FONT).is_ok(), "the font is sound"));
    let within = |at: u32, min: u32, max: u32| (min..=max).contains(&at);
    if !within(look.size.0, SIZE_MIN.0, SIZE_MAX.0) || !within(look.size.1, SIZE_MIN.1, SIZE_MAX.1) {
        return Err(PlotError::Size);
    }
    if recording.max(0).is_none() && recording.max(4).is_none() {
        return Err(PlotError::Nothing);
    }
    Ok(())
}

fn averaged(points: &[u8], (width, height): (u32, u32), scale: usize) -> Vec<u8> {
    if scale == 1 {
        return points.to_vec();
    }
    let (width, height) = (width as usize, height as usize);
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            for color in 0..3 {
                let each = (0..scale * scale).map(|at| (y * scale + at / scale, x * scale + at % scale));
                let sum: usize = each.map(|(y, x)| usize::from(points[(y * width * scale + x) * 3 + color])).sum();
                pixels.push(u8::try_from(sum / (scale * scale)).unwrap_or(u8::MAX));
            }
        }
    }
    pixels
}

/// Red, green and blue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Color(pub(super) u8, pub(super) u8, pub(super) u8);

impl Color {
    fn at(self, opacity: f64) -> RGBAColor {
        RGBAColor(self.0, self.1, self.2, opacity)
    }
}

/// What is drawn on, in pixels of the picture from its upper left corner.
pub(super) struct Canvas<'a, B> {
    backend: &'a mut B,
    scale: f64,
}

impl<B: DrawingBackend> Canvas<'_, B> {
    pub(super) fn rect(
        &mut self,
        from: (f64, f64),
        to: (f64, f64),
        color: Color,
        opacity: f64,
    ) -> Result<(), PlotError> {
        let (from, to) = (self.place(from), self.place(to));
        let style = ShapeStyle { color: color.at(opacity), filled: true, stroke_width: 0 };
        self.backend.draw_rect(from, to, &style, true).map_err(failed)
    }

    pub(super) fn line(&mut self, points: &[(f64, f64)], color: Color, width: f64) -> Result<(), PlotError> {
        let style = ShapeStyle { color: color.at(1.0), filled: false, stroke_width: self.length(width) };
        let points: Vec<_> = points.iter().map(|point| self.place(*point)).collect();
        self.backend.draw_path(points, &style).map_err(failed)
    }

    pub(super) fn area(&mut self, points: &[(f64, f64)], color: Color, opacity: f64) -> Result<(), PlotError> {
        let style = ShapeStyle { color: color.at(opacity), filled: true, stroke_width: 0 };
        let points: Vec<_> = points.iter().map(|point| self.place(*point)).collect();
        self.backend.fill_polygon(points, &style).map_err(failed)
    }

    pub(super) fn dot(&mut self, at: (f64, f64), radius: f64, color: Color) -> Result<(), PlotError> {
        let style = ShapeStyle { color: color.at(1.0), filled: true, stroke_width: 0 };
        let (at, radius) = (self.place(at), self.length(radius));
        self.backend.draw_circle(at, radius, &style, true).map_err(failed)
    }

    pub(super) fn text(
        &mut self,
        text: &str,
        at: (f64, f64),
        size: f64,
        color: Color,
        (across, down): (HPos, VPos),
    ) -> Result<(), PlotError> {
        let color = RGBColor(color.0, color.1, color.2);
        let style = self.style(size).color(&color).pos(Pos::new(across, down));
        let at = self.place(at);
        self.backend.draw_text(text, &style, at).map_err(failed)
    }

    /// How wide a text is, with some more for a reader whose letters are wider.
    pub(super) fn width(&mut self, text: &str, size: f64) -> Result<f64, PlotError> {
        let style = self.style(size);
        let (width, _) = self.backend.estimate_text_size(text, &style).map_err(failed)?;
        Ok(f64::from(width) / self.scale * 1.06)
    }

    /// As much of the text as has room.
    pub(super) fn fitting(&mut self, text: &str, size: f64, room: f64) -> Result<String, PlotError> {
        // Nobody reads more in one line, and measuring it again and again takes its time.
        let mut chars: Vec<char> = text.chars().take(400).collect();
        let whole = chars.len() == text.chars().count();
        let mut shown: String = chars.iter().collect();
        let mut cut = !whole;
        while self.width(&shown, size)? > room && chars.pop().is_some() {
            cut = true;
            shown = chars.iter().collect::<String>() + "…";
        }
        if cut && !shown.ends_with('…') {
            shown.push('…');
        }
        Ok(shown)
    }

    fn style(&self, size: f64) -> TextStyle<'static> {
        TextStyle::from((FontFamily::Name(FAMILY), size * self.scale))
    }

    fn place(&self, (x, y): (f64, f64)) -> (i32, i32) {
        let whole = |at: f64| {
            #[allow(clippy::cast_possible_truncation, reason = "a float is cast to the nearest there is")]
            let whole = (at * self.scale).round() as i32;
            whole
        };
        (whole(x), whole(y))
    }

    fn length(&self, length: f64) -> u32 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few pixels")]
        let whole = (length * self.scale).round().max(1.0) as u32;
        whole
    }
}

fn failed(error: impl std::error::Error) -> PlotError {
    PlotError::Draw(error.to_string())
}
